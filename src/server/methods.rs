//! The methods of this server, by path: the limiter of each, and whether its clients stream.

use std::sync::Arc;

use super::admission::{Bounds, CALLS, CallLimiter, CallPermit};
use crate::rpc::status::Failure;

/// Methods whose clients send more than one message. A test compares them with the descriptors.
const CLIENT_STREAMS: [&str; 5] = [
    "/cognate.v1.Cognate/EmbedStream",
    "/cognate.v1.Cognate/ClassifyStream",
    "/cognate.v1.Cognate/Upload",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Returns true if the client sends any number of messages, false if it sends exactly one.
pub fn is_client_stream(path: &str) -> bool {
    CLIENT_STREAMS.contains(&path)
}

/// The limiters of all kinds of calls.
#[derive(Debug)]
pub struct CallLimiters {
    /// The service's calls, except `Info`.
    pub calls: Arc<CallLimiter>,
    /// `Info`. It has its own permits, because a refused client calls it to learn the limits.
    info: Arc<CallLimiter>,
    /// Health checks, which are always answered.
    health: Arc<CallLimiter>,
    /// Requests whose one message has not arrived yet. They cost little, and take no permits of computing calls.
    arriving: Arc<CallLimiter>,
    /// Health watches, which stay open as long as their clients like.
    watches: Arc<CallLimiter>,
    /// Reflection, and all other calls.
    others: Arc<CallLimiter>,
}

impl CallLimiters {
    /// Limiters for `max_calls` calls, and for the small services.
    pub fn new(max_calls: usize) -> Self {
        let limiter =
            |calls, limit, per_connection| Arc::new(CallLimiter::new(Bounds { calls, limit, per_connection }));
        Self {
            calls: Arc::new(CallLimiter::shared(CALLS, max_calls)),
            // About 3 KB each, and a message; a message above `FREE` bytes takes its part of the budget.
            arriving: Arc::new(CallLimiter::shared("arriving requests", max_calls.saturating_mul(16).max(4096))),
            info: limiter("Info calls", 256, 16),
            health: limiter("health checks", 256, 16),
            // 12 KB each, measured.
            watches: limiter("health watches", 1024, 8),
            others: limiter("reflection calls", 64, 8),
        }
    }

    /// Admits a request of `connection` while its message arrives.
    pub fn admit_arriving(&self, connection: u64) -> Result<CallPermit, Failure> {
        self.arriving.admit(connection)
    }

    /// Admits a call of `connection` to `path`.
    pub fn admit(&self, path: &str, connection: u64) -> Result<CallPermit, Failure> {
        let limiter = match path {
            "/cognate.v1.Cognate/Info" => &self.info,
            "/grpc.health.v1.Health/Watch" => &self.watches,
            _ if path.starts_with("/cognate.v1.Cognate/") => &self.calls,
            _ if path.starts_with("/grpc.health.v1.Health/") => &self.health,
            _ => &self.others,
        };
        limiter.admit(connection)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn the_calls_whose_clients_stream_are_those_of_the_descriptors() {
        let mut streams = Vec::new();
        for descriptors in [
            crate::wire::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(descriptors).unwrap().file {
                for service in &file.service {
                    for method in service.method.iter().filter(|method| method.client_streaming()) {
                        streams.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                    }
                }
            }
        }
        let mut expected: Vec<_> = CLIENT_STREAMS.iter().map(|path| (*path).to_owned()).collect();
        streams.sort();
        streams.dedup();
        expected.sort();
        assert_eq!(streams, expected);
    }

    #[test]
    fn info_and_health_are_admitted_when_other_calls_are_not_and_watches_are_bounded() {
        let limiters = CallLimiters::new(1);
        let _call = limiters.admit("/cognate.v1.Cognate/Embed", 1).unwrap();
        assert_eq!(limiters.admit("/cognate.v1.Cognate/TopK", 2).unwrap_err(), Failure::TooManyCalls(1));
        assert!(limiters.admit("/cognate.v1.Cognate/Info", 2).is_ok());
        assert!(limiters.admit("/grpc.health.v1.Health/Check", 2).is_ok());
        let watches: Vec<_> =
            std::iter::from_fn(|| limiters.admit("/grpc.health.v1.Health/Watch", 2).ok()).take(100).collect();
        assert_eq!(watches.len(), 8);
    }
}

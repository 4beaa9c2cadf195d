//! The calls that this server answers, by their paths: which gate they pass, and whether their clients stream.

use std::sync::Arc;

use super::gate::{Bounds, CALLS, Gate, Place};
use crate::rpc::status::Failure;

/// Calls whose clients send more than one message. A test compares them with the descriptors.
const CLIENT_STREAMS: [&str; 5] = [
    "/cognate.v1.Cognate/EmbedStream",
    "/cognate.v1.Cognate/ClassifyStream",
    "/cognate.v1.Cognate/Upload",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Whether the client of a call sends any number of messages, or exactly one.
pub fn is_client_stream(path: &str) -> bool {
    CLIENT_STREAMS.contains(&path)
}

/// The gates of all kinds of calls.
#[derive(Debug)]
pub struct Gates {
    /// The service's calls, but for `Info`.
    pub calls: Arc<Gate>,
    /// `Info`: a client that is refused asks it for the limits, so it has places of its own.
    info: Arc<Gate>,
    /// Health checks, which must be answered whatever else goes on.
    health: Arc<Gate>,
    /// Requests of one message that are still to arrive: they cost little, and do not take the places of calls at work.
    arriving: Arc<Gate>,
    /// Health watches: they stay open as long as their clients like.
    watches: Arc<Gate>,
    /// Reflection, and whatever else may be asked for.
    others: Arc<Gate>,
}

impl Gates {
    /// Gates for `max_calls` calls, and for the small services beside them.
    pub fn new(max_calls: usize) -> Self {
        let gate = |calls, limit, per_connection| Arc::new(Gate::new(Bounds { calls, limit, per_connection }));
        Self {
            calls: Arc::new(Gate::shared(CALLS, max_calls)),
            // Some 3 KB each, and a message: above `FREE` bytes it takes its part of the budget.
            arriving: Arc::new(Gate::shared("requests that arrive", max_calls.saturating_mul(16).max(4096))),
            info: gate("Info calls", 256, 16),
            health: gate("health checks", 256, 16),
            // 12 KB each, as measured.
            watches: gate("health watches", 1024, 8),
            others: gate("reflection calls", 64, 8),
        }
    }

    /// Lets a request of `connection` arrive.
    pub fn arrive(&self, connection: u64) -> Result<Place, Failure> {
        self.arriving.enter(connection)
    }

    /// Lets a call of `connection` for `path` in.
    pub fn enter(&self, path: &str, connection: u64) -> Result<Place, Failure> {
        let gate = match path {
            "/cognate.v1.Cognate/Info" => &self.info,
            "/grpc.health.v1.Health/Watch" => &self.watches,
            _ if path.starts_with("/cognate.v1.Cognate/") => &self.calls,
            _ if path.starts_with("/grpc.health.v1.Health/") => &self.health,
            _ => &self.others,
        };
        gate.enter(connection)
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
            crate::proto::DESCRIPTORS,
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
    fn info_and_health_are_let_in_when_no_other_call_is_and_watches_are_bounded() {
        let gates = Gates::new(1);
        let _call = gates.enter("/cognate.v1.Cognate/Embed", 1).unwrap();
        assert_eq!(gates.enter("/cognate.v1.Cognate/TopK", 2).unwrap_err(), Failure::TooManyCalls(1));
        assert!(gates.enter("/cognate.v1.Cognate/Info", 2).is_ok());
        assert!(gates.enter("/grpc.health.v1.Health/Check", 2).is_ok());
        let watches: Vec<_> =
            std::iter::from_fn(|| gates.enter("/grpc.health.v1.Health/Watch", 2).ok()).take(100).collect();
        assert_eq!(watches.len(), 8);
    }
}

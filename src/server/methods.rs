//! The methods of this server, by path: the limiter of each, its names, and the sides that stream.

use std::sync::Arc;

use super::admission::{Bounds, CALLS, CallLimiter, CallPermit};
use crate::rpc::status::Failure;

use Kind::{BidiStream, ServerStream, Unary};

/// The sides of a call that send any number of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

/// The paths of all methods, with their kinds. A test compares them with the descriptors.
const METHODS: [(&str, Kind); 27] = [
    ("/cognate.v1.Cognate/Info", Unary),
    ("/cognate.v1.Cognate/Embed", Unary),
    ("/cognate.v1.Cognate/EmbedStream", BidiStream),
    ("/cognate.v1.Cognate/Similarity", Unary),
    ("/cognate.v1.Cognate/TopK", Unary),
    ("/cognate.v1.Cognate/Classify", Unary),
    ("/cognate.v1.Cognate/ClassifyStream", BidiStream),
    ("/cognate.v1.Cognate/Rerank", Unary),
    ("/cognate.v1.Cognate/Tokenize", Unary),
    ("/cognate.v1.Cognate/TokenizeStream", BidiStream),
    ("/cognate.v1.Cognate/Upload", BidiStream),
    ("/cognate.v1.Cognate/GetDocuments", Unary),
    ("/cognate.v1.Cognate/DeleteDocuments", Unary),
    ("/cognate.v1.Cognate/UpdateDocuments", Unary),
    ("/cognate.v1.Cognate/CountDocuments", Unary),
    ("/cognate.v1.Cognate/Facets", Unary),
    ("/cognate.v1.Cognate/ListDocuments", Unary),
    ("/cognate.v1.Cognate/Export", ServerStream),
    ("/cognate.v1.Cognate/CreateCollection", Unary),
    ("/cognate.v1.Cognate/ListCollections", Unary),
    ("/cognate.v1.Cognate/DeleteCollection", Unary),
    ("/cognate.v1.Cognate/MigrateCollection", ServerStream),
    ("/cognate.v1.Cognate/Backup", ServerStream),
    ("/grpc.health.v1.Health/Check", Unary),
    ("/grpc.health.v1.Health/Watch", ServerStream),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", BidiStream),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", BidiStream),
];

/// A method of this server, or [`Method::OTHER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(usize);

impl Method {
    /// Any path that is no method.
    pub const OTHER: Self = Self(METHODS.len());
    /// The number of methods, with [`Method::OTHER`].
    pub const COUNT: usize = METHODS.len() + 1;

    /// The method of `path`.
    pub fn of(path: &str) -> Self {
        Self(METHODS.iter().position(|(known, _)| *known == path).unwrap_or(METHODS.len()))
    }

    /// All methods, and [`Method::OTHER`].
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Its place in [`Method::all`].
    pub fn index(self) -> usize {
        self.0
    }

    /// The name of its service, with the package; `other` if it is no method.
    pub fn service(self) -> &'static str {
        self.names().0
    }

    /// Its name; `other` if it is no method.
    pub fn name(self) -> &'static str {
        self.names().1
    }

    /// Its kind, by the name that metrics of gRPC servers give it.
    pub fn kind(self) -> &'static str {
        match METHODS.get(self.0) {
            Some((_, ServerStream)) => "server_stream",
            Some((_, BidiStream)) => "bidi_stream",
            Some((_, Unary)) | None => "unary",
        }
    }

    /// Returns true if the client sends any number of messages, false if it sends exactly one.
    pub fn is_client_stream(self) -> bool {
        METHODS.get(self.0).is_some_and(|(_, kind)| *kind == BidiStream)
    }

    fn names(self) -> (&'static str, &'static str) {
        let path = METHODS.get(self.0).map_or("/other/other", |(path, _)| *path);
        path.trim_start_matches('/').split_once('/').unwrap_or(("other", "other"))
    }
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
    fn the_methods_are_those_of_the_descriptors() {
        let mut described = Vec::new();
        for descriptors in [
            crate::wire::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(descriptors).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let kind = match (method.client_streaming(), method.server_streaming()) {
                            (false, false) => Unary,
                            (false, true) => ServerStream,
                            (true, true) => BidiStream,
                            (true, false) => panic!("a kind that no method has yet"),
                        };
                        described.push((format!("/{}.{}/{}", file.package(), service.name(), method.name()), kind));
                    }
                }
            }
        }
        let mut methods: Vec<_> = METHODS.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
        described.sort_by(|one, other| one.0.cmp(&other.0));
        methods.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(methods, described);
    }

    #[test]
    fn a_path_that_is_no_method_has_the_name_other() {
        let names = |path| (Method::of(path).service(), Method::of(path).name(), Method::of(path).kind());
        assert_eq!(names("/cognate.v1.Cognate/Export"), ("cognate.v1.Cognate", "Export", "server_stream"));
        assert_eq!(names("/cognate.v1.Cognate/Nothing"), ("other", "other", "unary"));
        assert_eq!(Method::all().map(Method::index).collect::<Vec<_>>(), (0..Method::COUNT).collect::<Vec<_>>());
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

//! Reflection, for clients without stubs: both versions describe the service and all its messages.

use prost::Message;
use prost_types::FileDescriptorProto;
use tokio_stream::StreamExt;
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::Server;

const SERVICE: &str = "cognate.v1.Cognate";
const RPCS: [&str; 23] = [
    "Info",
    "Embed",
    "EmbedStream",
    "Similarity",
    "TopK",
    "Classify",
    "ClassifyStream",
    "Rerank",
    "Tokenize",
    "TokenizeStream",
    "Upload",
    "GetDocuments",
    "DeleteDocuments",
    "UpdateDocuments",
    "CountDocuments",
    "Facets",
    "ListDocuments",
    "Export",
    "CreateCollection",
    "ListCollections",
    "DeleteCollection",
    "MigrateCollection",
    "Backup",
];

/// Asks one version of reflection for the services and for our file.
macro_rules! ask {
    ($version:ident, $server:expr) => {{
        use $version::server_reflection_client::ServerReflectionClient;
        use $version::server_reflection_request::MessageRequest::{FileContainingSymbol, ListServices};
        use $version::server_reflection_response::MessageResponse;
        let request =
            |message| $version::ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let requests = vec![request(ListServices(String::new())), request(FileContainingSymbol(SERVICE.to_owned()))];
        let mut client = ServerReflectionClient::new($server.channel().await.unwrap());
        let responses = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let responses: Vec<_> = responses.collect::<Result<_, _>>().await.unwrap();
        let Some(MessageResponse::ListServicesResponse(services)) = &responses[0].message_response else {
            panic!("{responses:?}")
        };
        let names: Vec<String> = services.service.iter().map(|service| service.name.clone()).collect();
        let Some(MessageResponse::FileDescriptorResponse(files)) = &responses[1].message_response else {
            panic!("{responses:?}")
        };
        (names, files.file_descriptor_proto.clone())
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_list_the_service_and_its_rpcs() {
    let server = Server::start(&[]).await;
    for (services, files) in [ask!(v1, server), ask!(v1alpha, server)] {
        for name in [SERVICE, "grpc.health.v1.Health"] {
            assert!(services.iter().any(|service| service == name), "{name} is not in {services:?}");
        }
        let rpcs: Vec<String> = files
            .iter()
            .map(|file| FileDescriptorProto::decode(file.as_slice()).unwrap())
            .flat_map(|file| file.service)
            .filter(|service| service.name() == "Cognate")
            .flat_map(|service| service.method)
            .map(|method| method.name().to_owned())
            .collect();
        assert_eq!(rpcs, RPCS);
    }
}

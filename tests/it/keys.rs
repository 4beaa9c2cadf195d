//! Keys: who is let in, what each role may do in which collections, and what happens to calls whose key goes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{self, Query, TopKRequest, query};
use prost::Message;
use prost::bytes::{Buf, BufMut};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tokio_stream::StreamExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices;

use crate::harness::{Server, document};

/// A keys file in a directory of its own, which the command writes.
pub struct Keys {
    _directory: tempfile::TempDir,
    pub path: PathBuf,
}

fn cognate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(args).stdin(Stdio::null()).output().expect("the binary was built with the tests")
}

/// Returns the id of a key.
fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Keys {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        Self { _directory: directory, path }
    }

    fn flag(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn run(&self, action: &str, args: &[&str]) -> Output {
        cognate(&[&["keys", action, "--keys", self.flag()], args].concat())
    }

    /// Makes a key, and returns it.
    pub fn create(&self, name: &str, role: &str, more: &[&str]) -> String {
        let output = self.run("create", &[&["--name", name, "--role", role], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim_end().to_owned()
    }

    /// Makes a key that has expired.
    pub fn create_expired(&self, name: &str, role: &str) -> String {
        let key = self.create(name, role, &["--expires", "1"]);
        let expires = self.list().pop().unwrap()["expires"].as_str().unwrap().to_owned();
        let content = std::fs::read_to_string(&self.path).unwrap().replace(&expires, "2020-01-01T00:00:00Z");
        std::fs::write(&self.path, content).unwrap();
        key
    }

    /// Revokes a key.
    pub fn revoke(&self, key: &str) {
        assert!(self.run("revoke", &[id(key)]).status.success());
    }

    /// The lines of `keys list --json`.
    pub fn list(&self) -> Vec<serde_json::Value> {
        let output = self.run("list", &["--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub async fn server(&self, flags: &[&str]) -> Server {
        Server::start(&[&["--keys", self.flag()], flags].concat()).await
    }
}

/// A request with a key.
pub fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {key}")).unwrap());
    request
}

/// Messages as bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Calls a method with one message, and reads its whole answer.
async fn call(channel: &Channel, method: &str, key: Option<&str>, message: Vec<u8>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let messages = tokio_stream::once(message);
    let request = match key {
        Some(key) => with(key, messages),
        None => Request::new(messages),
    };
    let path = format!("/cognate.v1.Cognate/{method}").parse().unwrap();
    let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

/// A method with the field of its request that names a collection.
struct Rpc {
    name: String,
    collection_field: Option<i32>,
}

/// The methods of the service, from its descriptors.
fn rpcs() -> Vec<Rpc> {
    let files = FileDescriptorSet::decode(wire::DESCRIPTORS).unwrap().file;
    let messages: HashMap<String, &DescriptorProto> = files
        .iter()
        .flat_map(|file| file.message_type.iter().map(|m| (format!(".{}.{}", file.package(), m.name()), m)))
        .collect();
    let service = files.iter().flat_map(|file| &file.service).find(|service| service.name() == "Cognate").unwrap();
    let rpc = |method: &prost_types::MethodDescriptorProto| {
        let fields = &messages[method.input_type()].field;
        let names = |name: &str| name == "collection" || (name == "name" && method.name().ends_with("Collection"));
        let field = fields.iter().find(|field| names(field.name()) && field.r#type() == Type::String);
        Rpc { name: method.name().to_owned(), collection_field: field.map(|field| field.number()) }
    };
    service.method.iter().map(rpc).collect()
}

impl Rpc {
    /// The smallest request about a collection.
    fn request(&self, collection: &str) -> Vec<u8> {
        if self.name == "TopK" {
            let queries = vec![Query { query: Some(query::Query::Text("x".to_owned())), ..Default::default() }];
            return TopKRequest { collection: collection.to_owned(), queries, k: 1, ..Default::default() }
                .encode_to_vec();
        }
        let mut message = Vec::new();
        if let Some(field) = self.collection_field {
            prost::encoding::string::encode(field as u32, &collection.to_owned(), &mut message);
        }
        message
    }
}

/// What the table in docs/security.md says a method needs: the role, and if it reaches all collections.
fn needs() -> HashMap<String, (usize, bool)> {
    let docs = include_str!("../../docs/security.md");
    let rows = docs.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let role = ["read", "write", "admin"].iter().position(|role| cells.get(1) == Some(role))?;
        Some((cells[0].trim_matches('`').to_owned(), (role, cells[2] == "all collections")))
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_answered_for_the_roles_and_collections_that_it_needs_and_for_no_others() {
    let keys = Keys::new();
    let own = ["--collections", "a-*"];
    let callers = [
        ("reader", keys.create("reader", "read", &own), 0, false),
        ("writer", keys.create("writer", "write", &own), 1, false),
        ("admin", keys.create("admin", "admin", &own), 2, false),
        ("root", keys.create("root", "admin", &[]), 2, true),
    ];
    let server = keys.server(&[]).await;
    let (channel, needs, rpcs) = (server.channel().await.unwrap(), needs(), rpcs());
    assert_eq!(needs.len(), rpcs.len());
    let root = &callers[3].1;
    let create = |name: &str| wire::CreateCollectionRequest { name: name.to_owned(), ..Default::default() };
    let mut client = CognateClient::new(channel.clone());
    for name in ["a-1", "b-1"] {
        client.create_collection(with(root, create(name))).await.unwrap();
    }
    for rpc in &rpcs {
        let (role, of_server) = needs[&rpc.name];
        let ask = async |key, collection| call(&channel, &rpc.name, key, rpc.request(collection)).await;
        assert_eq!(ask(None, "a-1").await.unwrap_err().code(), Code::Unauthenticated, "{}", rpc.name);
        for (name, key, has, is_root) in &callers {
            let told = format!("{} by {name}", rpc.name);
            let code = |result: Result<(), Status>| result.err().map_or(Code::Ok, |status| status.code());
            if *has < role || (of_server && !is_root) {
                assert_eq!(code(ask(Some(key), "a-1").await), Code::PermissionDenied, "{told}");
                continue;
            }
            let answered = code(ask(Some(key), "a-none").await);
            let refusals = [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented];
            assert!(!refusals.contains(&answered), "{told}: {answered:?}");
            if rpc.collection_field.is_some() && !is_root {
                let there = ask(Some(key), "b-1").await.unwrap_err();
                let not_there = ask(Some(key), "b-2").await.unwrap_err();
                assert_eq!(
                    (there.code(), not_there.code()),
                    (Code::PermissionDenied, Code::PermissionDenied),
                    "{told}"
                );
                assert_eq!(there.message().replace("b-1", "b-2"), not_there.message(), "{told}");
                assert_eq!(there.details().len(), not_there.details().len(), "{told}");
            }
        }
    }
    let left = client.list_collections(with(root, wire::ListCollectionsRequest::default())).await.unwrap();
    let left: Vec<String> = left.into_inner().collections.into_iter().map(|collection| collection.name).collect();
    assert!(left.contains(&"b-1".to_owned()) && !left.contains(&"b-2".to_owned()), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_of_all_kinds_get_the_same_answer_and_a_second_key_replaces_the_first() {
    let keys = Keys::new();
    let (first, second) = (keys.create("a", "read", &[]), keys.create("a", "read", &[]));
    let (revoked, expired) = (keys.create("b", "read", &[]), keys.create_expired("c", "read"));
    keys.revoke(&revoked);
    // Of another file, with an id that this one has not.
    let unknown = Keys::new().create("a", "read", &[]);
    let server = keys.server(&["--log", "debug"]).await;
    let channel = server.channel().await.unwrap();
    let mut client = CognateClient::new(channel);
    for key in [&first, &second] {
        client.info(with(key, wire::InfoRequest {})).await.unwrap();
    }
    let mut told = Vec::new();
    let mut wrong = vec![Request::new(wire::InfoRequest {})];
    wrong.extend(
        [&*revoked, &expired, &unknown, "cgn_", "", &first[1..], &first.to_uppercase()]
            .map(|key| with(key, wire::InfoRequest {})),
    );
    for value in [format!("Basic {first}"), first.clone()] {
        let mut request = Request::new(wire::InfoRequest {});
        request.metadata_mut().insert("authorization", value.parse().unwrap());
        wrong.push(request);
    }
    let mut twice = with(&first, wire::InfoRequest {});
    twice.metadata_mut().append("authorization", format!("Bearer {first}").parse().unwrap());
    wrong.push(twice);
    for request in wrong {
        let status = client.info(request).await.unwrap_err();
        told.push((status.code(), status.message().to_owned(), status.details().to_vec()));
    }
    assert!(told.iter().all(|status| status.0 == Code::Unauthenticated && *status == told[0]), "{told:?}");
    server.has_logged(&format!("the key {} of b was revoked", id(&revoked))).await;
    server.has_logged(&format!("the key {} of c has expired", id(&expired))).await;
    server.has_logged(&format!("the key {} is not known", id(&unknown))).await;

    // The first key is revoked while the server runs, and the second one serves on.
    keys.revoke(&first);
    server.has_logged("reloaded").await;
    assert_eq!(client.info(with(&first, wire::InfoRequest {})).await.unwrap_err().code(), Code::Unauthenticated);
    client.info(with(&second, wire::InfoRequest {})).await.unwrap();
}

/// Opens a stream of embeddings, and waits for its first answer.
pub async fn stream(
    server: &Server,
    key: &str,
) -> (tokio::sync::mpsc::Sender<wire::EmbedRequest>, tonic::Streaming<wire::EmbedResponse>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(embed()).await.unwrap();
    let mut client = server.client().await;
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = client.embed_stream(with(key, requests)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    (sender, answers)
}

pub fn embed() -> wire::EmbedRequest {
    wire::EmbedRequest { texts: vec!["a text".to_owned()], ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_key_is_revoked_and_those_of_others_go_on() {
    let keys = Keys::new();
    let (a, b) = (keys.create("a", "read", &[]), keys.create("b", "read", &[]));
    let server = keys.server(&[]).await;
    let ((_sender, mut of_a), (sender, mut of_b)) = (stream(&server, &a).await, stream(&server, &b).await);
    assert!(keys.run("revoke", &["a"]).status.success());
    let ended = tokio::time::timeout(Duration::from_secs(30), of_a.message()).await.expect("the stream ends");
    assert_eq!(ended.unwrap_err().code(), Code::Unauthenticated);
    sender.send(embed()).await.unwrap();
    assert!(of_b.message().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_mistake_changes_nothing_and_the_log_says_why() {
    let keys = Keys::new();
    let key = keys.create("a", "read", &[]);
    let server = keys.server(&[]).await;
    let (_sender, mut answers) = stream(&server, &key).await;
    std::fs::write(&keys.path, "version = 1\nquota = 3\n").unwrap();
    server.has_logged("line 2: quota is no field").await;
    server.client().await.info(with(&key, wire::InfoRequest {})).await.unwrap();
    drop(_sender);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_info_show_what_the_caller_may_see() {
    let keys = Keys::new();
    let directory = tempfile::tempdir().unwrap();
    let (root, a) = (keys.create("root", "admin", &[]), keys.create("a", "write", &["--collections", "a-*"]));
    let server = keys.server(&["--data-dir", directory.path().to_str().unwrap()]).await;
    let mut client = server.client().await;
    for (key, names) in [(&root, vec!["b-1", "b-2", "c"]), (&a, vec!["a-1", "a-2", "a-3"])] {
        for collection in names {
            let message =
                wire::UploadRequest { collection: collection.to_owned(), documents: vec![document("1", "x")] };
            let mut answers = client.upload(with(key, tokio_stream::once(message))).await.unwrap().into_inner();
            while answers.next().await.transpose().unwrap().is_some() {}
        }
    }
    let mut pages = Vec::new();
    let mut request = wire::ListCollectionsRequest { page_size: 2, ..Default::default() };
    loop {
        let page = client.list_collections(with(&a, request.clone())).await.unwrap().into_inner();
        pages.push(page.collections.into_iter().map(|collection| collection.name).collect::<Vec<_>>());
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(pages, [vec!["a-1", "a-2"], vec!["a-3"]]);

    let mut info = async |key: &str| client.info(with(key, wire::InfoRequest {})).await.unwrap().into_inner();
    let (of_root, of_a) = (info(&root).await, info(&a).await);
    let path = directory.path().to_str().unwrap();
    assert_eq!(of_root.storage.as_ref().unwrap().directory, path);
    assert!(!format!("{of_a:?}").contains(path));
    let counts = |info: &wire::InfoResponse| info.storage.as_ref().map(|s| (s.collections, s.documents)).unwrap();
    assert_eq!((counts(&of_root), counts(&of_a)), ((6, 6), (3, 3)));
    let model = of_a.model.unwrap();
    assert!(!model.id.starts_with('/'), "{}", model.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_open_and_what_is_public_is_a_setting() {
    let keys = Keys::new();
    let key = keys.create("a", "read", &[]);
    let ask = async |server: &Server| {
        let info = server.client().await.info(wire::InfoRequest {}).await;
        let list = ServerReflectionRequest { message_request: Some(ListServices(String::new())), ..Default::default() };
        let mut reflection = ServerReflectionClient::new(server.channel().await.unwrap());
        let reflection = reflection.server_reflection_info(tokio_stream::once(list)).await;
        let code = |status: Option<Status>| status.map_or(Code::Ok, |status| status.code());
        (code(info.err()), code(reflection.err()))
    };
    // The server waits here for health, without a key.
    let closed = keys.server(&[]).await;
    assert_eq!(ask(&closed).await, (Code::Unauthenticated, Code::Unauthenticated));
    let open = keys.server(&["--public-info", "--public-reflection"]).await;
    assert_eq!(ask(&open).await, (Code::Ok, Code::Ok));
    let mut client = open.client().await;
    let info = client.info(wire::InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.storage.map(|storage| (storage.directory, storage.collections)), Some((String::new(), 0)));
    // A key that is sent is not ignored.
    assert_eq!(client.info(with("wrong", wire::InfoRequest {})).await.unwrap_err().code(), Code::Unauthenticated);
    client.info(with(&key, wire::InfoRequest {})).await.unwrap();
    assert_eq!(client.embed(embed()).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_appears_in_the_log_or_in_an_answer() {
    let keys = Keys::new();
    let key = keys.create("a", "admin", &[]);
    let secret = &key[21..];
    let server = keys.server(&["--log", "trace"]).await;
    let mut client = server.client().await;
    let info = client.info(with(&key, wire::InfoRequest {})).await.unwrap();
    assert!(!format!("{info:?}").contains(secret));
    let almost = format!("{}0", &key[..key.len() - 1]);
    for wrong in [&almost, &format!("{key} {key}"), &format!("x{key}")] {
        let status = client.info(with(wrong, wire::InfoRequest {})).await.err();
        assert!(!format!("{status:?}").contains(secret));
    }
    client.embed(with(&key, embed())).await.unwrap();
    server.terminate();
    server.has_logged("stopping").await;
    let log = server.log();
    assert!(log.contains("not authenticated") && !log.contains(&secret[..32]), "{log}");
}

#[test]
fn keys_do_not_cross_a_network_without_tls_unless_it_is_allowed() {
    let keys = Keys::new();
    keys.create("a", "read", &[]);
    let output = cognate(&["serve", "--in-memory", "--addr", "0.0.0.0:0", "--keys", keys.flag()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--insecure"), "{}", text(&output.stderr));
}

#[test]
fn the_command_makes_lists_and_revokes_keys_and_shows_each_once() {
    let keys = Keys::new();
    let output = keys.run("create", &["--name", "a", "--role", "write", "--collections", "a-*", "--expires", "30"]);
    let key = text(&output.stdout).trim_end().to_owned();
    assert!(key.starts_with("cgn_") && text(&output.stdout).lines().count() == 1, "{key}");
    assert!(!text(&output.stderr).contains(&key[21..]) && text(&output.stderr).contains("a may write in a-*"));
    let second = keys.run("create", &["--name", "a"]);
    assert!(second.status.success(), "the role and the collections are those of the name");
    let listed = keys.list();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[1]["role"], &listed[1]["collections"][0]), (&"write".into(), &"a-*".into()));
    assert!(listed[0]["expires"].is_string() && listed[1]["expires"].is_null() && listed[0]["valid"] == true);
    let file = std::fs::read_to_string(&keys.path).unwrap();
    assert!(!file.contains(&key[21..]) && !text(&keys.run("list", &[]).stdout).contains(&key[21..]));
    private(&keys.path);

    let other = keys.run("create", &["--name", "a", "--role", "admin"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("a has the role write"), "{}", text(&other.stderr));
    assert_eq!(keys.run("create", &["--name", "new"]).status.code(), Some(2), "a new name needs a role");
    assert_eq!(std::fs::read_to_string(&keys.path).unwrap(), file, "nothing was changed");

    std::fs::write(&keys.path, file.replace("version = 1", "# ours\nversion = 1")).unwrap();
    assert!(keys.run("revoke", &["a"]).status.success());
    assert!(keys.list().iter().all(|line| line["valid"] == false && line["revoked"].is_string()));
    assert!(std::fs::read_to_string(&keys.path).unwrap().contains("# ours"));
    for wrong in ["a", "nobody", &key] {
        let output = keys.run("revoke", &[wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(!text(&output.stderr).contains(&key[21..]));
    }
    private(&keys.path);
}

#[test]
fn commands_that_change_one_file_wait_for_each_other() {
    let keys = Keys::new();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let keys = &keys;
            scope.spawn(move || keys.create(&format!("k{n}"), "read", &[]));
        }
    });
    assert_eq!(keys.list().len(), 8);
}

/// Checks that a file is for its user alone.
fn private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let _ = path;
}

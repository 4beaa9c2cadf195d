//! Each client of `clients/` does the same against the real server, and `clients/SCENARIO.md` says what: a table of
//! steps. Here the servers are started, a client's program runs, and each step must be passed in order. What a program
//! needs is installed once per target directory, in the versions that its own files pin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::certificates::Authority;
use crate::harness::Server;
use crate::installed::{
    NEEDS_PYTHON, as_outside_of_a_test, buf, go_program, install, python, repository, run, stderr, target_dir,
};
use crate::keys::Keys;
use crate::rerank;
use crate::skipped::skipped;

const GO_PLUGINS: [&str; 2] =
    ["google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12", "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1"];
const NEEDS_GO: &str = "Go 1.24 or later and a Go module proxy that GOPROXY names";

/// Returns the folder of a client.
fn folder(client: &str) -> PathBuf {
    repository().join("clients").join(client)
}

/// Returns the names of the steps in `clients/SCENARIO.md`.
fn steps() -> Vec<String> {
    let text = fs::read_to_string(repository().join("clients/SCENARIO.md")).unwrap();
    let (_, table) = text.split_once("## The steps").expect("the scenario has steps");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_owned()).collect()
}

/// Runs a client's program, with the address of a server as its last argument and a server with TLS and keys in its
/// environment, and demands all steps.
async fn passes(mut program: Command) {
    let (authority, other, keys) = (Authority::new(), Authority::new(), Keys::new());
    let (writer, reader) = (keys.create("writer", "write", &[]), keys.create("reader", "read", &[]));
    let certificate = authority.valid().flags();
    let mut flags: Vec<&str> = certificate.iter().map(String::as_str).collect();
    flags.extend(["--keys", keys.path.to_str().unwrap()]);
    let secure = Server::spawn(&flags);
    let server = Server::start(&["--max-calls", "32"]).await;
    secure.has_logged("memory is divided").await; // the last step of its start

    program.arg(server.addr.to_string());
    program.env("SCENARIO_TLS", secure.addr.to_string());
    program.env("SCENARIO_CA", authority.ca()).env("SCENARIO_OTHER_CA", other.ca());
    program.env("SCENARIO_WRITER_KEY", writer).env("SCENARIO_READER_KEY", reader);
    assert_eq!(said_by(program, &[&server, &secure]).await, steps());
}

/// Runs a program, which must succeed, and returns the names in its lines `ok NAME`.
pub async fn said_by(mut program: Command, servers: &[&Server]) -> Vec<String> {
    let output = tokio::task::spawn_blocking(move || run(&mut program, String::new())).await.unwrap();
    let output = output.expect("the client's program was installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let logs: String = servers.iter().map(|server| format!("A server's log:\n{}\n", server.log())).collect();
    assert!(output.status.success(), "{}\n{said}{}\n{logs}", output.status, stderr(&output));
    said.lines().filter_map(|line| line.strip_prefix("ok ")).map(str::to_owned).collect()
}

#[test]
fn each_client_runs_the_scenario() {
    assert_eq!(steps().len(), 22);
    let tests = include_str!("conformance.rs");
    let readme = fs::read_to_string(repository().join("clients/README.md")).unwrap();
    let entries = fs::read_dir(repository().join("clients")).unwrap().map(|entry| entry.unwrap());
    let mut clients = 0;
    for client in entries.filter(|entry| entry.file_type().unwrap().is_dir()) {
        let name = client.file_name().into_string().unwrap();
        assert!(tests.contains(&format!("async fn {}_runs_the_scenario()", name.replace('-', "_"))), "{name}");
        assert!(readme.contains(&format!("]({name})")), "clients/README.md has no line about {name}");
        assert!(client.path().join("README.md").exists(), "{name}");
        clients += 1;
    }
    assert!(clients > 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn go_runs_the_scenario() {
    install(Command::new("go").current_dir(folder("go")).args(["vet", "./..."]), NEEDS_GO);
    passes(go_scenario()).await;
}

/// Returns the scenario in Go. The first test that asks builds it.
pub fn go_scenario() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(|| {
        let program = target_dir().join("clients/go-scenario");
        let mut go = Command::new("go");
        install(go.current_dir(folder("go")).args(["build", "-o", program.to_str().unwrap(), "./scenario"]), NEEDS_GO);
        program
    }))
}

#[test]
#[ignore = "needs Go with its module proxy and Python with PyPI: cargo test -- --ignored"]
fn go_is_formatted_and_generated_from_the_proto() {
    let output = run(Command::new("gofmt").arg("-l").arg(folder("go")), String::new()).expect("Go has gofmt");
    assert!(output.status.success() && output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let plugins = GO_PLUGINS.map(|plugin| format!("--plugin={}", go_program(plugin, NEEDS_GO).display()));
    let made = tempfile::tempdir_in(target_dir()).expect("the target directory can be written");
    let mut protoc = Command::new(python("tests/clients"));
    protoc.current_dir(repository()).args(["-m", "grpc_tools.protoc", "-I", "proto"]).args(plugins);
    for kind in ["go", "go-grpc"] {
        protoc.arg(format!("--{kind}_out={}", made.path().display()));
        protoc.arg(format!("--{kind}_opt=module=github.com/cognateserver/cognate/clients/go"));
    }
    install(protoc.arg("cognate/v1/cognate.proto"), "grpcio-tools, which tests/clients/requirements.txt names");
    for file in ["cognatev1/cognate.pb.go", "cognatev1/cognate_grpc.pb.go"] {
        is_committed(&made.path().join(file), &folder("go").join(file));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Maven and its central repository: cargo test -- --ignored"]
async fn java_runs_the_scenario() {
    let built = target_dir().join("clients/java");
    let mut maven = Command::new("mvn");
    maven.current_dir(folder("java")).args(["-q", "-B", "test-compile", "dependency:build-classpath"]);
    maven.arg(format!("-DbuildDirectory={}", built.display()));
    maven.arg(format!("-Dmdep.outputFile={}", built.join("classpath").display()));
    install(&mut maven, "Maven 3.8, Java 17 or later, and a repository of Maven's artifacts");
    let libraries = fs::read_to_string(built.join("classpath")).expect("Maven has written it");
    let mut java = Command::new("java");
    let [classes, tests] = ["classes", "test-classes"].map(|folder| built.join(folder).display().to_string());
    java.args(["-cp", &[classes, tests, libraries].join(":"), "io.github.cognateserver.scenario.Scenario"]);
    passes(java).await;
}

/// Returns two environments with the wheel of the Python client: one with all tools for its checks, and one with later
/// versions of grpcio and protobuf than those that made its stubs. They are made at most once.
pub fn pythons() -> &'static [PathBuf; 2] {
    static INSTALLED: OnceLock<[PathBuf; 2]> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let made = tempfile::tempdir_in(target_dir()).expect("the target directory can be written");
        let pythons = ["clients/python", "tests/clients"].map(python);
        let mut build = Command::new(&pythons[0]);
        build.args(["-m", "build", "--no-isolation", "--outdir"]).arg(made.path()).arg(folder("python"));
        install(&mut build, NEEDS_PYTHON);
        let mut files = fs::read_dir(made.path()).unwrap().map(|entry| entry.unwrap().path());
        let wheel = files.find(|path| path.extension().is_some_and(|kind| kind == "whl")).expect("a wheel was built");
        let wheel = wheel.to_str().expect("the path is text");
        for python in &pythons {
            let pip = |words: &[&str]| install(Command::new(python).args(["-m", "pip"]).args(words), NEEDS_PYTHON);
            pip(&["install", "--disable-pip-version-check", "--no-deps", "--force-reinstall", wheel]);
            pip(&["check"]);
        }
        pythons
    })
}

/// A command of Python in the folder of its client. It writes nothing there.
pub fn in_python(python: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.current_dir(folder("python")).args(words).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
async fn python_runs_the_scenario() {
    let [_, latest] = pythons();
    passes(in_python(latest, &["scenario.py"])).await;
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
fn python_is_generated_from_the_proto() {
    let words = if std::env::var_os("COGNATE_REGENERATE").is_some() { &[][..] } else { &["--check"] };
    let output = run(in_python(&python("clients/python"), &["tools/generate.py"]).args(words), String::new()).unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
async fn python_is_formatted_and_typed_and_passes_its_tests() {
    let [python, _] = pythons();
    let server = rerank::start(&[]).await;
    let types = target_dir().join("python/mypy");
    for words in [
        &["-m", "ruff", "check", "--no-cache"][..],
        &["-m", "ruff", "format", "--check", "--no-cache"],
        &["-m", "mypy", "--cache-dir", types.to_str().unwrap()],
        &["-m", "pytest", "-p", "no:cacheprovider", "--ignore", "tests/test_keys.py"],
    ] {
        let mut command = in_python(python, words);
        let output = run(command.env("COGNATE_ADDR", server.addr.to_string()), String::new()).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{words:?}:\n{said}{}\n{}", stderr(&output), server.log());
    }
}

/// The client's crate has no build script, so that its users compile no compiler of protos. Nor has it such a compiler
/// for its tests: the features of that would make other crates out of those that the server is built from.
#[test]
fn rust_is_generated_from_the_proto() {
    let made = tempfile::tempdir_in(target_dir()).expect("the target directory can be written");
    let descriptors: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .bytes(".cognate.v1.Vector.data")
        // The server has no stubs: it decodes a message only after its bytes have been reserved.
        .build_server(false)
        .build_transport(true)
        .out_dir(made.path())
        .compile_fds(prost::Message::decode(descriptors).expect("build.rs wrote them"))
        .expect("the proto is valid");
    is_committed(&made.path().join("cognate.v1.rs"), &folder("rust").join("src/wire/generated.rs"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds an example of the client's crate: cargo test -- --ignored"]
async fn rust_runs_the_scenario() {
    let mut cargo = Command::new(env!("CARGO"));
    // With the whole workspace, so that crates have the features with which they are built already.
    cargo.current_dir(repository()).args(["build", "--workspace", "--example", "scenario"]);
    install(as_outside_of_a_test(&mut cargo), "what the repository needs");
    passes(Command::new(target_dir().join("../debug/examples/scenario"))).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gRPC for C++, or is skipped: cargo test -- --ignored"]
async fn cpp_gets_an_answer_and_the_reason_of_a_failure() {
    let Some(plugin) = which("grpc_cpp_plugin") else {
        return skipped("no gRPC for C++ (Debian: libgrpc++-dev, protobuf-compiler-grpc, pkg-config)");
    };
    let made = tempfile::tempdir_in(target_dir()).expect("the target directory can be written");
    let needs = "g++ and Debian's protobuf-compiler, libgrpc++-dev and pkg-config";
    let out = made.path().display();
    let mut protoc = Command::new("protoc");
    protoc.current_dir(repository()).args(["-I", "proto", &format!("--cpp_out={out}"), &format!("--grpc_out={out}")]);
    protoc.arg(format!("--plugin=protoc-gen-grpc={}", plugin.display()));
    let files = ["cognate/v1/cognate.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"];
    install(protoc.args(files), needs);
    let source = repository().join("tests/clients/topk.cc");
    let command = format!(
        "g++ -std=c++17 -I. -o topk {} $(find . -name '*.cc') $(pkg-config --cflags --libs grpc++ protobuf)",
        source.display()
    );
    install(Command::new("sh").current_dir(made.path()).args(["-c", &command]), needs);

    let server = Server::start(&[]).await;
    let mut program = Command::new(made.path().join("topk"));
    let output = run(program.arg(server.addr.to_string()), String::new()).expect("it was compiled");
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> =
        said.lines().map(|line| line.trim_start_matches(|c: char| "0123456789.- ".contains(c))).collect();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!((lines.len(), lines[0], lines[3]), (4, "a train", "wrong: k"), "{said}");
}

/// Returns a copy of `clients/node` in the target directory, with its packages installed, and compiled.
fn node() -> &'static Path {
    const NEEDS: &str = "Node.js 20 or later and a registry that npm reaches";
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let copy = target_dir().join("clients/node");
        for old in ["build", "scenario", "src", "test"] {
            fs::remove_dir_all(copy.join(old)).ok(); // files that are gone would be compiled too
        }
        fs::create_dir_all(&copy).expect("the target directory can be written");
        let parts = ["package.json", "package-lock.json", "tsconfig.json", "buf.gen.yaml", "README.md"];
        let parts = parts.iter().chain(&["scenario", "src", "test"]).map(|part| folder("node").join(part));
        install(Command::new("cp").arg("-R").args(parts).arg(&copy), NEEDS);
        // It is written last. An interrupted installation, or one of other versions, is made anew.
        let (marker, wanted) = (copy.join("installed.json"), fs::read(copy.join("package-lock.json")).unwrap());
        if fs::read(&marker).ok().as_ref() != Some(&wanted) {
            install(Command::new("npm").current_dir(&copy).args(["ci", "--ignore-scripts"]), NEEDS);
            fs::write(&marker, wanted).expect("the target directory can be written");
        }
        install(Command::new("npm").current_dir(&copy).args(["run", "build"]), NEEDS);
        copy
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and its package registry: cargo test -- --ignored"]
async fn node_runs_the_scenario() {
    let mut program = Command::new("node");
    program.arg(node().join("build/scenario/main.js"));
    passes(program).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and its package registry: cargo test -- --ignored"]
async fn node_passes_its_own_tests_and_the_programs_of_its_readme() {
    let mut tests = Command::new("npm");
    tests.current_dir(node()).arg("test");
    let server = Server::start(&[]).await;
    tests.env("COGNATE_ADDRESS", server.addr.to_string());
    let output = tokio::task::spawn_blocking(move || run(&mut tests, String::new())).await.unwrap();
    let output = output.expect("npm was found");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}\nThe server's log:\n{}", stderr(&output), server.log());
}

#[test]
#[ignore = "needs Node.js and its package registry: cargo test -- --ignored"]
fn node_is_generated_from_the_proto() {
    let programs = std::env::join_paths(
        [node().join("node_modules/.bin")].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let made = tempfile::tempdir_in(target_dir()).expect("the target directory can be written");
    let mut generate = Command::new(buf());
    generate.current_dir(node()).env("PATH", programs.expect("folders of PATH")).arg("generate");
    generate.arg(repository().join("proto")).arg("--output").arg(made.path());
    install(&mut generate, "the plugin that clients/node/package.json names");
    for file in ["cognate/v1/cognate_pb.ts", "google/rpc/status_pb.ts", "google/rpc/error_details_pb.ts"] {
        is_committed(&made.path().join("src/gen").join(file), &folder("node").join("src/gen").join(file));
    }
}

/// Returns the path of a program that the system has.
fn which(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.exists())
}

/// Demands that a generated file is the one in the repository; with `COGNATE_REGENERATE` it becomes that.
fn is_committed(made: &Path, committed: &Path) {
    if std::env::var_os("COGNATE_REGENERATE").is_some() {
        fs::copy(made, committed).expect("the repository can be written");
    }
    let same = fs::read(made).unwrap() == fs::read(committed).unwrap_or_default();
    assert!(same, "{} is not of this proto: run the test with COGNATE_REGENERATE=1", committed.display());
}

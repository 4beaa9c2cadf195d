//! The committed stubs are those of the proto. The crate has no build script, so that its users compile no compiler of
//! protos, and the test is not published, because a published crate has no `proto/` beside it.

use std::path::Path;
use std::{env, fs};

/// Writes the stubs of the proto, instead of comparing them.
const REGENERATE: &str = "COGNATE_REGENERATE";

#[test]
fn the_stubs_are_those_of_the_proto() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(["cognate/v1/cognate.proto"], [root.join("../../proto")]).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .bytes(".cognate.v1.Vector.data")
        // The server has no stubs: it decodes a message only after its bytes have been reserved.
        .build_server(false)
        .build_transport(true)
        .out_dir(folder)
        .compile_fds(files)
        .unwrap();
    let (made, committed) = (folder.join("cognate.v1.rs"), root.join("src/wire/generated.rs"));
    if env::var_os(REGENERATE).is_some() {
        fs::copy(&made, &committed).unwrap();
    }
    let same = fs::read(made).unwrap() == fs::read(committed).unwrap();
    assert!(same, "proto/ has changed: run `{REGENERATE}=1 cargo test -p cognate-client --test generated`");
}

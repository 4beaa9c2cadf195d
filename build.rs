//! Compiles the proto in Rust (no protoc) to the client's stubs, and to the descriptor set that reflection serves.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["cognate/v1/cognate.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&files))?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .bytes(".cognate.v1.Vector.data")
        // The server's side is `rpc::Service`, which leaves messages undecoded until they are paid for.
        .build_server(false)
        .build_transport(true)
        .compile_fds(files)?;
    Ok(())
}

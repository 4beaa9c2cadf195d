//! Compiles the proto, in Rust and without protoc, to the client's stubs and to the descriptor set for reflection.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["cognate/v1/cognate.proto", "google/rpc/error_details.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&files))?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .bytes(".cognate.v1.Vector.data")
        // The server has no stubs: `rpc::Service` decodes a message only after its bytes have been reserved.
        .build_server(false)
        .build_transport(true)
        .compile_fds(files)?;
    Ok(())
}

//! Compiles the proto, in Rust and without protoc, to the descriptor set for reflection. The stubs are in
//! `clients/rust`.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["cognate/v1/cognate.proto", "google/rpc/error_details.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&files))?;
    Ok(())
}

//! The binary: an allocator, and the command line.

use std::process::ExitCode;

/// Tensors of megabytes come and go: the system's allocator would return their pages each time, and
/// fault them in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // First of all: the server, the client and the hub's client share one provider.
    rustls::crypto::ring::default_provider().install_default().expect("no other provider is installed before this");
    cognate::cli::main()
}

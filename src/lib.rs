//! Cognate turns text into unit vectors, compares texts, finds a text's nearest neighbours, and classifies
//! texts, behind one gRPC API.
//!
//! ```text
//!                        ┌─────────────────────────── server ── connections, admission, budgets, health
//!   gRPC client ──► rpc ─┤  (wire ↔ domain, errors → codes)
//!                        ├──► embedder    text → unit vectors ──┐
//!                        ├──► classifier  text → labels ────────┴► inference: tokens, queue, batches ──► kernel, onnx
//!                        └──► collection  documents by id ──► index: exact scan, graph ──► kernel
//!   model    directory, hub cache, hub, wheel ──► files and card ──► embedder, classifier
//!   compute  pools of threads for the work of calls, which stops with its caller       budget   bytes on their way
//!   machine  instructions, teams of threads, priorities, mapped files, memory of the container, the allocator's sizes
//!   config   flags, environment, file ──► each part's Options         cli ──► client ──► gRPC
//!   wire     generated messages, vectors and metadata in them ──► rpc, client
//! ```
//!
//! Data flows one way: wire → domain → numbers. [`embedder`] and [`index`] do not know each other. tonic and prost are
//! known to [`wire`], [`rpc`], [`server`] and [`client`]; h2 to [`server`]; clap to [`cli`] and [`config`]; hnsw_rs to
//! one file of [`index`]; hf-hub to one file of [`model`]; ort and rten to one file of [`onnx`] each. ARCHITECTURE.md
//! has the invariants and the path of each call.

#![deny(unsafe_code)]

pub mod budget;
pub mod classifier;
pub mod cli;
pub mod client;
pub mod collection;
pub mod compute;
pub mod config;
pub mod embedder;
#[doc(hidden)]
pub mod fuzz;
pub mod index;
pub mod inference;
pub mod kernel;
pub mod machine;
pub mod model;
pub mod onnx;
pub mod rpc;
pub mod server;
pub mod telemetry;
pub mod wire;

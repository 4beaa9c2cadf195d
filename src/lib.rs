//! Cognate turns text into unit vectors, compares texts, and finds a text's nearest neighbours, behind
//! one gRPC API.
//!
//! ```text
//!                        ┌─────────────────────────── server ── health, reflection, gate, drain
//!   gRPC client ──► rpc ─┤  (wire ↔ domain, errors → codes)
//!                        ├──► embedder    text → tokens → batches → unit vectors ──► kernel
//!                        └──► collection  documents by id ──► index: exact scan, graph ──► kernel
//!   model    directory, hub cache, hub, wheel ──► files and card ──► embedder
//!   config   flags, environment, file ──► each part's Options         cli ──► client ──► gRPC
//! ```
//!
//! Data flows one way: wire → domain → numbers. [`embedder`] and [`index`] meet only in [`rpc`] and
//! [`collection`]. tonic and prost are known to [`rpc`], [`server`] and [`client`]; clap to [`cli`] and
//! [`config`]; hnsw_rs to one file of [`index`]; hf-hub to one file of [`model`]. ARCHITECTURE.md has
//! the invariants and the path of each call.

#![deny(unsafe_code)]

pub mod cli;
pub mod client;
pub mod collection;
pub mod config;
pub mod embedder;
pub mod index;
pub mod kernel;
pub mod model;
pub mod proto;
pub mod rpc;
pub mod server;
pub mod telemetry;

//! Cognate turns text into unit vectors, compares texts, finds a text's nearest neighbours, and classifies
//! texts, behind one gRPC API.
//!
//! ```text
//!                        ┌─────────────────────────── server ── connections, admission, budgets, health
//!   gRPC client ──► rpc ─┤  (wire ↔ domain, errors → codes)
//!                        ├──► embedder    text → unit vectors ──┐
//!                        ├──► classifier  text → labels ────────┴► inference: tokens, queue, batches ──► kernel, onnx
//!                        └──► backend ─┬► collection  documents by id ──┬► index: exact scan, graph ──► kernel
//!                                      └► opensearch                     └► lexical: words, BM25
//!   model    directory, hub cache, hub, wheel ──► files and card ──► embedder, classifier
//!   compute  pools of threads for the work of calls, which stops with its caller       budget   bytes on their way
//!   machine  instructions, teams of threads, priorities, mapped files, memory of the container, the allocator's sizes
//!   config   flags, environment, file ──► each part's Options         cli ──► client ──► gRPC
//!   wire     generated messages, vectors and metadata in them ──► rpc, client         reader  files ──► documents
//! ```
//!
//! Data flows one way: wire → domain → numbers. ARCHITECTURE.md has the arrows between the modules, the one place that
//! knows each large crate, the invariants, and the path of each call.
//!
//! # For programs that embed it
//!
//! [`Client`] talks to a server. [`Index`] finds neighbours among vectors, [`Embedder`] makes vectors of texts, and
//! [`Store`] keeps documents with both, as does [`opensearch::Store`] on a search engine; [`serve`] puts an [`Engine`]
//! of them behind the API. Each works without the next one:
//!
//! ```
//! use std::sync::Arc;
//!
//! use cognate::compute::stop::Stop;
//! use cognate::index::{Effort, Index, Options};
//!
//! let index = Index::new(2, Options::default());
//! let slots = index.insert(&[Arc::from([1.0, 0.0]), Arc::from([0.6, 0.8])]);
//! let nearest = index.search(&[0.0, 1.0], 1, Effort::Exact, &Stop::never())?;
//! assert_eq!(nearest[0].slot, slots[1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = cognate::connect("127.0.0.1:50051", &cognate::client::Options::default()).await?;
//! let info = client.info(cognate::wire::InfoRequest {}).await?;
//! println!("{info:?}");
//! # Ok(())
//! # }
//! ```

pub mod classifier;
pub mod collection;
pub mod compute;
pub mod embedder;
pub mod identity;
pub mod index;
pub mod model;
pub mod opensearch;
pub mod server;
pub mod wire;

pub use backend::Backend;
pub use budget::ByteBudget;
pub use cognate_client::{self as client, Client, connect};
pub use collection::Store;
pub use embedder::Embedder;
pub use index::Index;
pub use rpc::{About, Engine, Guarded, Limits};
pub use server::serve;

mod backend;
mod budget;
mod config;
mod console;
mod inference;
mod metrics;
mod onnx;
mod per_second;
mod reader;
mod reranker;
mod rpc;
mod telemetry;

// For the binary, the benches and the fuzz targets of this repository. They may change with any version.
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod kernel;
#[doc(hidden)]
pub mod lexical;
#[doc(hidden)]
pub mod machine;

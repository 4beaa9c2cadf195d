//! HTTP: connections of both versions, the protocols above them, and the pages that are no calls.
//!
//! ```text
//! first bytes ─► detect ─► http2, http1 ─► exchange ─► call ─► protocol: form, reply
//!                                                       │ messages        │ web, connect, json
//!                                                       └─► rpc ──────────┘
//! ```
//!
//! Invariant: there is one way from a request to the service, `server/call.rs`, so what bounds, recognises and records
//! a call holds for every protocol.

pub mod connect;
pub mod cors;
pub mod detect;
pub mod exchange;
pub mod http1;
pub mod http2;
pub mod json;
mod openai;
pub mod pages;
pub mod protocol;
pub mod reply;
mod tei;
pub mod translation;
pub mod web;

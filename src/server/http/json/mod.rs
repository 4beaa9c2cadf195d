//! Messages as JSON, by the canonical mapping of protobuf, for every rpc that the descriptors have. The door of
//! prost-reflect.
//!
//! Both directions go from bytes to bytes: no message is built in memory, so a translation takes as much as its input
//! and its output. Invariant: JSON that has a field which the message has not, or has one twice, is refused by name.
//! The number of items and the memory of the message itself are left to [`crate::rpc`], as for gRPC.

mod descriptors;
mod read;
#[cfg(test)]
mod tests;
mod values;
mod write;
mod writer;

use std::sync::Arc;

use serde_json::Value;

use super::translation::{Output, Translation};
use crate::budget::ByteBudget;
use crate::rpc::status::Failure;
use descriptors::{DETAILS, METHODS, Method};

/// Returns the translation of the rpc at `path` to and from JSON.
pub fn translation(path: &str) -> Option<Arc<dyn Translation>> {
    METHODS.get(path).map(|method| Arc::new(Json(Arc::clone(method))) as Arc<dyn Translation>)
}

/// Returns a detail of an error as JSON, if its type is known.
pub fn details(name: &str, message: &[u8]) -> Option<Value> {
    /// Details have a few kilobytes at most.
    const BYTES: usize = 64 * 1024;
    let descriptor = DETAILS.get_message_by_name(name)?;
    let mut out = Output::new(ByteBudget::new(BYTES), BYTES);
    write::message(&descriptor, message, &mut out).ok()?;
    serde_json::from_slice(&out.finish()).ok()
}

/// The translation of one rpc.
struct Json(Arc<Method>);

impl Translation for Json {
    fn request(&self, body: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
        read::message(&self.0.request, body, limit)
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        write::message(&self.0.answer, message, out)
    }
}

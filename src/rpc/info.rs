//! `Info`: what this server is.

use super::Engine;
use crate::proto;

pub fn info(engine: &Engine) -> proto::InfoResponse {
    let about = &engine.about;
    proto::InfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: Some(proto::Model {
            id: about.id.clone(),
            revision: about.revision.clone(),
            fingerprint: about.fingerprint.clone(),
            dimensions: engine.embedder.dimensions() as u32,
            max_tokens: about.max_tokens as u32,
            pooling: about.pooling.clone(),
            device: engine.embedder.device().to_string(),
            precision: about.precision.clone(),
        }),
        limits: Some(engine.limits.to_proto()),
    }
}

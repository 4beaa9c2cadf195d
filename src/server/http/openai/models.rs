//! `GET /v1/models`, and one of them: the embedding model.

use std::path::Path;

use prost::Message;
use serde_json::json;

use super::failures::no_model;
use crate::rpc::status::Failure;
use crate::server::http::translation::{Output, Translation};
use crate::wire;

/// The list of the models that embed, or one of them.
pub struct Models {
    /// The name in the path; `None`: the list is wanted.
    pub name: Option<String>,
}

impl Translation for Models {
    fn request(&self, _: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
        Ok(wire::InfoRequest {}.encode_to_vec())
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        let info = wire::InfoResponse::decode(message).map_err(|_| Failure::Internal)?;
        let model = info.model.ok_or(Failure::Internal)?;
        let id = name(&model.id, &model.revision);
        if let Some(asked) = self.name.as_ref().filter(|asked| !is_name_of(asked, &id)) {
            return Err(no_model(asked, &id));
        }
        let shown = json!({
            "id": id,
            "object": "model",
            "created": 0,
            "owned_by": "cognate",
            "dimensions": model.dimensions,
            "max_tokens": model.max_tokens,
        });
        out.put_json(&if self.name.is_some() { shown } else { json!({ "object": "list", "data": [shown] }) })
    }
}

/// The name of a model for those who call it: its id on the hub, or the last name of its directory.
pub fn name(id: &str, revision: &str) -> String {
    /// The revision of a model that is not from the hub.
    const LOCAL: &str = "local";
    let last = Path::new(id).file_name().map(|name| name.to_string_lossy().into_owned());
    last.filter(|_| revision == LOCAL).unwrap_or_else(|| id.to_owned())
}

/// True for the whole name of a model, and for its last part.
pub fn is_name_of(asked: &str, model: &str) -> bool {
    asked == model || model.rsplit('/').next() == Some(asked)
}

//! `GET /v1/models`, and one of them: the embedding models.

use std::path::Path;

use prost::Message;
use serde_json::json;

use crate::rpc::About;
use crate::rpc::status::{Failure, Resource};
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
        let names: Vec<Name> = info.models.iter().map(|one| Name::of(&one.name, &one.id, &one.revision)).collect();
        let shown = |(name, model): (&Name, &wire::Model)| {
            json!({
                "id": name.shown,
                "object": "model",
                "created": 0,
                "owned_by": "cognate",
                "dimensions": model.dimensions,
                "max_tokens": model.max_tokens,
            })
        };
        match &self.name {
            Some(asked) => {
                let found = names.iter().zip(&info.models).find(|(name, _)| name.is(asked));
                out.put_json(&shown(found.ok_or_else(|| no_model(asked, &names))?))
            }
            None => {
                let data: Vec<_> = names.iter().zip(&info.models).map(shown).collect();
                out.put_json(&json!({ "object": "list", "data": data }))
            }
        }
    }
}

/// The names of a model for those who call it here.
pub struct Name {
    /// The name in other calls.
    pub of_rpc: String,
    /// The name that answers have: that of the settings; without one, the id on the hub or the last name of the
    /// directory.
    pub shown: String,
}

impl Name {
    /// Takes the name in the settings, the id and the revision.
    pub fn of(name: &str, id: &str, revision: &str) -> Self {
        /// The revision of a model that is not from the hub.
        const LOCAL: &str = "local";
        let last = || Some(Path::new(id).file_name()?.to_string_lossy().into_owned());
        let shown = match name {
            About::UNNAMED if revision == LOCAL => last().unwrap_or_else(|| id.to_owned()),
            About::UNNAMED => id.to_owned(),
            name => name.to_owned(),
        };
        Self { of_rpc: name.to_owned(), shown }
    }

    /// True for the name that answers have and its last part, and for the name in other calls.
    pub fn is(&self, asked: &str) -> bool {
        asked == self.of_rpc || asked == self.shown || self.shown.rsplit('/').next() == Some(asked)
    }
}

/// A model that this server has not.
pub fn no_model(asked: &str, known: &[Name]) -> Failure {
    let known = known.iter().map(|name| name.shown.clone()).collect();
    Failure::NotFound(Resource::Model { kind: "embedding model", name: asked.to_owned(), known })
}

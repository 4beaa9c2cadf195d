//! The embedding models of a server: found by the names that requests use, and by the fingerprints of collections.
//!
//! Invariant: a collection is read, exported and changed whatever models there are. Its model is asked for here, and
//! only where a text must become a vector.

use std::sync::Arc;

use super::status::{Failure, Resource};
use crate::backend::Collection;
use crate::collection;
use crate::embedder::{Embedder, Spec};

/// The embedding models of a server, in the configured order. The first one is the default. A clone is cheap.
#[derive(Clone)]
pub struct Models {
    first: Arc<Served>,
    others: Arc<[Served]>,
}

/// A model that runs.
pub struct Served {
    /// The model.
    pub embedder: Embedder,
    /// Its description.
    pub about: About,
}

/// The description of a model.
#[derive(Debug, Clone)]
pub struct About {
    /// The name that requests use.
    pub name: String,
    /// Hub id or directory.
    pub id: String,
    /// Commit, or `local`.
    pub revision: String,
    /// Digest of everything that decides its vectors.
    pub fingerprint: String,
    /// Fingerprints of other models whose collections may be searched and extended with this one.
    pub also_compatible: Vec<String>,
    /// Tokens that the model reads of a text.
    pub max_tokens: usize,
    /// The method that combines the token vectors into one.
    pub pooling: String,
    /// Number format of its arithmetic.
    pub precision: String,
}

impl About {
    /// The name of a model that the settings give none.
    pub const UNNAMED: &'static str = Spec::UNNAMED;

    /// The fingerprints of models whose vectors are accepted: this one's, and those that the settings allow.
    pub fn compatible(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.fingerprint).chain(&self.also_compatible).map(String::as_str)
    }
}

impl Served {
    /// The model of a collection that is created for its vectors.
    pub(super) fn of_new(&self) -> collection::Model<'_> {
        let About { name, fingerprint, .. } = &self.about;
        collection::Model { name, fingerprint, dimensions: self.embedder.dimensions() }
    }
}

impl Models {
    /// Takes models with different names, as the configuration ensures.
    pub fn new(first: Served, others: Vec<Served>) -> Self {
        Self { first: Arc::new(first), others: others.into() }
    }

    /// The default model.
    pub fn first(&self) -> &Served {
        &self.first
    }

    /// Iterates over all models, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Served> {
        std::iter::once(&*self.first).chain(&*self.others)
    }

    /// Finds the model that a request names. The empty name means the default.
    pub(super) fn get(&self, name: &str) -> Result<&Served, Failure> {
        if name.is_empty() {
            return Ok(self.first());
        }
        self.iter().find(|served| served.about.name == name).ok_or_else(|| {
            let (kind, name, known) = ("embedding model", name.to_owned(), self.names());
            Failure::NotFound(Resource::Model { kind, name, known })
        })
    }

    /// Finds the model of a collection by its fingerprint, or one whose vectors may be mixed with its own.
    pub(super) fn of(&self, fingerprint: &str) -> Option<&Served> {
        let own = self.iter().find(|served| served.about.fingerprint == fingerprint);
        own.or_else(|| self.iter().find(|served| served.about.also_compatible.iter().any(|other| other == fingerprint)))
    }

    /// Finds the model of a collection, for a text that is to be embedded.
    pub(super) fn of_collection(&self, collection: &Collection) -> Result<&Served, Failure> {
        let model = collection.model();
        self.of(model.fingerprint).ok_or_else(|| Failure::NoModel {
            collection: collection.name().to_owned(),
            model: model.name.to_owned(),
            fingerprint: model.fingerprint.to_owned(),
            served: self.names(),
        })
    }

    /// The name of a collection's model: the one that it has here, or else the one that it had when the collection was
    /// created.
    pub(super) fn name_of(&self, fingerprint: &str, stored: String) -> String {
        self.of(fingerprint).map_or(stored, |served| served.about.name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.iter().map(|served| served.about.name.clone()).collect()
    }
}

//! A collection on the engine: what its index says of it, and the way to it. Other files add the operations.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::engine::Engine;
use super::error::Error;
use super::http::Method;
use super::mapping::Meta;
use super::writer::Writer;
use crate::budget::ByteBudget;
use crate::collection::{Model, PassageSizes};
use crate::lexical::{self, TermReader};

/// Documents of one model, stored and searched by the engine.
pub struct Collection {
    pub(super) engine: Arc<Engine>,
    pub(super) meta: Meta,
    /// The name through which it is called.
    pub(super) alias: String,
    pub(super) writer: Writer,
    /// Reads the terms of texts; `None`: the collection has no words.
    pub(super) reader: Option<TermReader>,
    pub(super) shared: Shared,
}

/// The parts that the collections of a store share. Clones share them too.
#[derive(Clone)]
pub(super) struct Shared {
    /// Memory of changes that wait.
    pub waiting: ByteBudget,
    /// Memory of what searches have found.
    pub found: ByteBudget,
    /// Permits of exports.
    pub exports: Arc<Semaphore>,
}

impl Collection {
    /// Starts the writer of a collection.
    pub(super) fn new(engine: Arc<Engine>, meta: Meta, shared: Shared) -> Self {
        let alias = meta.alias(&engine.options.prefix);
        let writer = Writer::start(Arc::clone(&engine), alias.clone());
        let reader = meta.lexical.map(TermReader::new);
        Self { engine, meta, alias, writer, reader, shared }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.meta.name
    }

    /// The sizes of its passages; `None`: a text is one passage.
    pub fn passages(&self) -> Option<PassageSizes> {
        self.meta.passages
    }

    /// The settings of its words; `None`: it is searched by vectors alone.
    pub fn lexical(&self) -> Option<lexical::Options> {
        self.meta.lexical
    }

    /// The model of its vectors. Its name is empty if it is not known.
    pub fn model(&self) -> Model<'_> {
        let Meta { model, fingerprint, dimensions, .. } = &self.meta;
        Model { name: model, fingerprint, dimensions: *dimensions }
    }

    /// The path of an operation on its index.
    pub(super) fn path(&self, operation: &str) -> String {
        format!("/{}/{operation}", self.alias)
    }

    /// Asks its index to search for one thing.
    pub(super) async fn ask<T>(&self, operation: &str, body: &Value) -> Result<T, Error>
    where
        T: serde::de::DeserializeOwned + Send + 'static,
    {
        self.engine.ask(Method::Post, self.path(operation), Some(body)).await
    }
}

//! `CountDocuments`.

use super::answer::Answer;
use super::request::Received;
use super::status::Failure;
use super::{Engine, documents, filter};
use crate::compute::WhenFull;
use crate::wire;

pub async fn count(engine: &Engine, request: Received<wire::CountDocumentsRequest>) -> Result<Answer, Failure> {
    let Received { message: request, held, deadline, access, .. } = request;
    let collection = documents::collection(engine, &access, &request.collection).await?;
    let limits = engine.limits.clone();
    let parse = move || request.filter.map(|given| filter::parse("filter", given, &limits)).transpose();
    let documents = collection.count(&engine.pools.search, WhenFull::Refuse(deadline), parse).await?;
    drop(held);
    Answer::of(&wire::CountDocumentsResponse { documents }, &engine.limits)
}

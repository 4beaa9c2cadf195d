//! `CountDocuments`.

use super::answer::Answer;
use super::request::Received;
use super::status::Failure;
use super::{Engine, compute, documents, filter};
use crate::compute::WhenFull;
use crate::compute::stop::Stop;
use crate::wire;

pub async fn count(engine: &Engine, request: Received<wire::CountDocumentsRequest>) -> Result<Answer, Failure> {
    let Received { message: request, held, deadline, access, .. } = request;
    let collection = documents::collection(engine, &access, &request.collection)?;
    let limits = engine.limits.clone();
    let count = move |stop: &Stop| {
        let filter = request.filter.map(|given| filter::parse("filter", given, &limits)).transpose()?;
        Ok::<_, Failure>(collection.count(filter.as_ref(), stop)?)
    };
    let documents = compute(&engine.pools.search, WhenFull::Refuse(deadline), count).await??;
    drop(held);
    Answer::of(&wire::CountDocumentsResponse { documents }, &engine.limits)
}

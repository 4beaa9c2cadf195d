//! `Classify` and `ClassifyStream`: texts to labels.

use std::sync::Arc;

use tonic::Streaming;

use super::status::{Failure, Resource};
use super::{Engine, Responses, bounded, each, parse, vector};
use crate::classifier::{Classified, Classifier, Selection, probabilities, ranked};
use crate::compute::{Deadline, WhenFull};
use crate::inference::Truncation;
use crate::proto::{self, VectorFormat, classify_result};

/// How texts become labels.
struct Form<'a> {
    classifier: &'a Classifier,
    truncation: Truncation,
    selection: Selection,
    raw_scores: bool,
    with_vector: bool,
}

pub async fn classify(
    engine: &Engine,
    request: proto::ClassifyRequest,
    deadline: Deadline,
) -> Result<proto::ClassifyResponse, Failure> {
    answer(engine, request, WhenFull::Refuse(deadline)).await
}

pub fn classify_stream(
    engine: Arc<Engine>,
    requests: Streaming<proto::ClassifyRequest>,
) -> Responses<proto::ClassifyResponse> {
    each::in_order(requests, move |request: proto::ClassifyRequest| {
        let engine = Arc::clone(&engine);
        async move {
            let n = request.texts.len();
            let answered = answer(&engine, request, WhenFull::Wait).await;
            answered.unwrap_or_else(|failure| proto::ClassifyResponse { results: vec![failed(&failure); n] })
        }
    })
}

fn parse<'a>(engine: &'a Engine, request: &proto::ClassifyRequest) -> Result<Form<'a>, Failure> {
    parse::count("texts", request.texts.len(), 1, engine.limits.max_texts)?;
    let classifier = engine.classifiers.get(&request.model).ok_or_else(|| {
        let known = engine.classifiers.iter().map(|classifier| classifier.about().name.clone()).collect();
        Failure::NotFound(Resource::Classifier { name: request.model.clone(), known })
    })?;
    if request.min_score.is_some_and(f32::is_nan) {
        return Err(Failure::invalid("min_score", "is NaN"));
    }
    if request.with_vector && !classifier.embeds() {
        let name = &classifier.about().name;
        return Err(Failure::invalid("with_vector", format!("is of heads on the embedding, and {name} is none")));
    }
    Ok(Form {
        classifier,
        truncation: parse::truncation(request.truncation)?,
        selection: Selection {
            top_n: (request.top_n > 0).then_some(request.top_n as usize),
            min_score: request.min_score,
        },
        raw_scores: request.raw_scores,
        with_vector: request.with_vector,
    })
}

async fn answer(
    engine: &Engine,
    request: proto::ClassifyRequest,
    when_full: WhenFull,
) -> Result<proto::ClassifyResponse, Failure> {
    let form = parse(engine, &request)?;
    let run = |texts| form.classifier.classify(texts, form.truncation, when_full);
    let classified = each::text(request.texts, &engine.limits, run).await?;
    let results = classified.into_iter().map(|result| match result {
        Ok(classified) => write(classified, &form),
        Err(failure) => failed(&failure),
    });
    bounded(proto::ClassifyResponse { results: results.collect() }, &engine.limits)
}

fn write(classified: Classified, form: &Form<'_>) -> proto::ClassifyResult {
    let about = form.classifier.about();
    let Classified { logits, embedding, tokens, tokens_total } = classified;
    let ranked = ranked(&if form.raw_scores { logits } else { probabilities(&logits, about.problem) });
    let label = |n: usize| about.labels[n].clone();
    let (best, score) = ranked.first().map_or((String::new(), 0.0), |&(n, score)| (label(n), score));
    let listed = form.selection.of(&ranked).iter();
    let classification = proto::Classification {
        label: best,
        score,
        scores: listed.map(|&(n, score)| proto::LabelScore { label: label(n), score }).collect(),
        vector: embedding
            .filter(|_| form.with_vector)
            .map(|embedding| vector::write(embedding.into_values(), VectorFormat::F32)),
    };
    proto::ClassifyResult {
        result: Some(classify_result::Result::Classification(classification)),
        tokens: tokens as u32,
        tokens_total: tokens_total as u32,
        truncated: tokens_total > tokens,
    }
}

fn failed(failure: &Failure) -> proto::ClassifyResult {
    proto::ClassifyResult { result: Some(classify_result::Result::Error(failure.to_item())), ..Default::default() }
}

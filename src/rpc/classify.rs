//! `Classify` and `ClassifyStream`: texts to labels.

use std::sync::Arc;

use prost::Message;

use super::answer::{self, Answer};
use super::request::{Next, Received, Requests};
use super::status::{Failure, MAX_ITEM_BYTES, Resource};
use super::{Engine, Responses, each, parse, size, vector};
use crate::classifier::{Classified, Classifier, Selection, probabilities, ranked};
use crate::compute::Terms;
use crate::embedder::Embedder;
use crate::inference::Truncation;
use crate::wire::{self, VectorFormat, classify_result};

/// The options of a classification.
struct ClassifyOptions<'a> {
    classifier: &'a Classifier,
    truncation: Truncation,
    selection: Selection,
    raw_scores: bool,
    /// The format of the vectors, if they are asked for.
    vectors_as: Option<VectorFormat>,
}

pub async fn classify(engine: &Arc<Engine>, request: Received<wire::ClassifyRequest>) -> Result<Answer, Failure> {
    let terms = request.terms();
    answer(engine, request, terms).await
}

pub fn classify_stream(engine: Arc<Engine>, requests: Requests<wire::ClassifyRequest>) -> Responses<Answer> {
    each::in_order(requests, move |request: Next<wire::ClassifyRequest>| {
        let engine = Arc::clone(&engine);
        async move {
            let answer = |request: Received<_>| {
                let terms = request.terms_of_stream();
                answer(&engine, request, terms)
            };
            let fail = |items: Vec<_>| wire::ClassifyResponse { results: items.into_iter().map(failed).collect() };
            each::answer_in_place(&engine, request, |request| request.texts.len(), answer, fail).await
        }
    })
}

/// Parses the options; the texts of `request` are not used here.
fn parse<'a>(engine: &'a Engine, request: &wire::ClassifyRequest) -> Result<ClassifyOptions<'a>, Failure> {
    let classifier = engine.classifiers.get(&request.model).ok_or_else(|| {
        let known = engine.classifiers.iter().map(|classifier| classifier.about().name.clone()).collect();
        Failure::NotFound(Resource::Model { kind: "classifier", name: request.model.clone(), known })
    })?;
    if request.min_score.is_some_and(f32::is_nan) {
        return Err(Failure::invalid("min_score", "is NaN: expected a number"));
    }
    if request.with_vector && classifier.embeds().is_none() {
        let name = &classifier.about().name;
        return Err(Failure::invalid(
            "with_vector",
            format!("only classifier heads return vectors; {name} is an ONNX graph"),
        ));
    }
    Ok(ClassifyOptions {
        classifier,
        truncation: parse::truncation(request.truncation)?,
        selection: Selection {
            top_n: (request.top_n > 0).then_some(request.top_n as usize),
            min_score: request.min_score,
        },
        raw_scores: request.raw_scores,
        vectors_as: vector::answered(request.with_vector, request.vector_format)?,
    })
}

async fn answer(
    engine: &Arc<Engine>,
    request: Received<wire::ClassifyRequest>,
    terms: Terms,
) -> Result<Answer, Failure> {
    let Received { message: mut request, held, .. } = request;
    parse::count("texts", request.texts.len(), 1, engine.limits.max_texts)?;
    let texts = std::mem::take(&mut request.texts);
    let options = parse(engine, &request)?;
    let run = |texts| options.classifier.classify(texts, options.truncation, terms);
    let classified = each::text(texts, &engine.limits, run).await?;
    drop(held);
    let limits = engine.limits.clone();
    let max_bytes = classified.len().saturating_mul(options.result_bytes().max(MAX_ITEM_BYTES));
    let of_answer = Arc::clone(engine);
    Answer::build(engine, max_bytes.min(limits.max_message_bytes), terms.when_full, move || {
        let options = parse(&of_answer, &request)?;
        let mut bytes = 0;
        let results = classified.into_iter().map(|result| {
            let result = match result {
                Ok(classified) => write(classified, &options),
                Err(failure) => failed(failure.to_item()),
            };
            // Only now is it known how many labels `min_score` leaves.
            bytes += size::field(result.encoded_len());
            answer::check(bytes, &limits)?;
            Ok(result)
        });
        Ok(wire::ClassifyResponse { results: results.collect::<Result<_, Failure>>()? })
    })
    .await
}

impl ClassifyOptions<'_> {
    /// The most bytes that the result of a text takes.
    fn result_bytes(&self) -> usize {
        const COUNTS: usize = 6 + 6 + 2;
        const SCORE: usize = 5;
        let labels = &self.classifier.about().labels;
        let listed = labels.len().min(self.selection.top_n.unwrap_or(usize::MAX));
        let longest = labels.iter().map(String::len).max().unwrap_or(0);
        let scores = listed * size::field(size::field(longest) + SCORE);
        let dimensions = self.classifier.embeds().map_or(0, Embedder::dimensions);
        let of_vector = |format| size::field(size::vector(dimensions, format));
        let vector = self.vectors_as.map_or(0, of_vector);
        size::field(size::field(size::field(longest) + SCORE + scores + vector) + COUNTS)
    }
}

fn write(classified: Classified, options: &ClassifyOptions<'_>) -> wire::ClassifyResult {
    let about = options.classifier.about();
    let Classified { logits, embedding, tokens, tokens_total } = classified;
    let ranked = ranked(&if options.raw_scores { logits } else { probabilities(&logits, about.problem) });
    let label = |n: usize| about.labels[n].clone();
    let (best, score) = ranked.first().map_or((String::new(), 0.0), |&(n, score)| (label(n), score));
    let listed = options.selection.of(&ranked).iter();
    let classification = wire::Classification {
        label: best,
        score,
        scores: listed.map(|&(n, score)| wire::LabelScore { label: label(n), score }).collect(),
        vector: embedding
            .zip(options.vectors_as)
            .map(|(embedding, format)| wire::vector::write(embedding.into_values(), format)),
    };
    wire::ClassifyResult {
        result: Some(classify_result::Result::Classification(classification)),
        tokens: tokens as u32,
        tokens_total: tokens_total as u32,
        truncated: tokens_total > tokens,
    }
}

fn failed(item: tonic_types::pb::Status) -> wire::ClassifyResult {
    wire::ClassifyResult { result: Some(classify_result::Result::Error(item)), ..Default::default() }
}

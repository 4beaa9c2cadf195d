//! gRPC of Text Embeddings Inference, `tei.v1` (`proto/tei/v1/tei.proto`): each rpc is a translation of one of ours, so
//! that its clients can change the address and nothing else.
//!
//! A call has one text there, so the error of a text is that of its call or stream. Invariant: a wish that is not
//! honoured is refused by name; an rpc without a counterpart is UNIMPLEMENTED, and says why.

mod codec;
mod messages;
mod tokenize;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prost::Message;

use super::translation::{Output, Translation};
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;
use crate::wire::{self, InputType, Truncation, classify_result, embed_result, rerank_result};
use codec::{failure, ours, read};
use messages as tei;

/// The rpc of ours that answers a call of `tei.v1`, and the translation of its messages.
pub type Counterpart = (&'static str, Arc<dyn Translation>);

/// Returns the counterpart of a path of `tei.v1`, or the reason why it has none. `None`: the path is another one.
pub fn rpc(path: &str) -> Option<Result<Counterpart, Failure>> {
    let one = |rpc, translation: Arc<dyn Translation>| Some(Ok((rpc, translation)));
    match path.strip_prefix("/tei.v1.")? {
        "Info/Info" => one("Info", Arc::new(Info)),
        "Embed/Embed" => one("Embed", Arc::new(Embed::default())),
        "Embed/EmbedStream" => one("EmbedStream", Arc::new(Embed::default())),
        "Predict/Predict" => one("Classify", Arc::new(Predict::default())),
        "Predict/PredictStream" => one("ClassifyStream", Arc::new(Predict::default())),
        "Rerank/Rerank" => one("Rerank", Arc::new(Rerank::default())),
        "Tokenize/Tokenize" => one("Tokenize", Arc::new(tokenize::Tokenize)),
        "Tokenize/TokenizeStream" => one("TokenizeStream", Arc::new(tokenize::Tokenize)),
        other => Some(Err(Refusal::NotOffered { reason: reason(other) }.into())),
    }
}

/// The reason why a call of `tei.v1` has no counterpart.
fn reason(call: &str) -> &'static str {
    match call.strip_suffix("Stream").unwrap_or(call) {
        "Embed/EmbedSparse" => {
            "this server has no sparse vectors; it searches by words in a collection: see SEARCH_MODE_LEXICAL of \
             cognate.v1.Cognate/TopK"
        }
        "Embed/EmbedAll" | "Embed/EmbedRaw" => {
            "this server returns no vectors of single tokens; tei.v1.Embed/Embed returns that of the text"
        }
        "Predict/PredictPair" => "classifiers read single texts here; tei.v1.Rerank/Rerank scores pairs",
        "Rerank/Rerank" => "all texts are needed to order them: send them in one call of tei.v1.Rerank/Rerank",
        "Tokenize/Decode" => {
            "this server makes no texts of tokens; tei.v1.Tokenize/Tokenize returns the part of the text that each \
             token stands for"
        }
        _ => "this method does not exist in the tei.v1 that this server knows",
    }
}

fn truncation(truncate: bool, direction: tei::TruncationDirection) -> Result<i32, Failure> {
    if direction != 0 {
        let reason = "the model's settings say which part of a long text is kept; leave it out";
        return Err(Failure::invalid("truncation_direction", reason));
    }
    Ok(if truncate { Truncation::End.into() } else { Truncation::Reject.into() })
}

/// The kind of text that has the prompt of this name.
fn input_type(prompt_name: Option<&str>) -> Result<i32, Failure> {
    Ok(match prompt_name {
        None => InputType::Unspecified,
        Some("query") => InputType::Query,
        Some("document" | "passage") => InputType::Document,
        Some(_) => return Err(Failure::invalid("prompt_name", "expected query, document or passage")),
    }
    .into())
}

fn work(chars: u32, tokens: u32) -> Option<tei::Metadata> {
    Some(tei::Metadata { compute_chars: chars, compute_tokens: tokens, ..Default::default() })
}

struct Info;

impl Translation for Info {
    fn request(&self, body: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
        read::<tei::InfoRequest>(body)?;
        Ok(wire::InfoRequest {}.encode_to_vec())
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        let info: wire::InfoResponse = ours(message)?;
        let (model, limits) = (info.model.ok_or(Failure::Internal)?, info.limits.ok_or(Failure::Internal)?);
        let answer = tei::InfoResponse {
            version: info.version,
            model_id: model.id,
            model_sha: Some(model.revision),
            model_dtype: model.precision,
            max_concurrent_requests: limits.max_calls,
            max_input_length: model.max_tokens,
            max_batch_tokens: u32::try_from(limits.max_queued_tokens).unwrap_or(u32::MAX),
            max_client_batch_size: limits.max_texts,
            ..Default::default()
        };
        out.put(&answer.encode_to_vec())
    }
}

/// The characters of the texts of a call whose answers have not been written yet, oldest first. A stream is answered in
/// order, and the server reads few of its messages ahead.
#[derive(Default)]
struct Chars(std::sync::Mutex<std::collections::VecDeque<u32>>);

impl Chars {
    fn push(&self, text: &str) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_back(text.chars().count() as u32);
    }

    fn next(&self) -> u32 {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front().unwrap_or_default()
    }
}

#[derive(Default)]
struct Embed {
    chars: Chars,
}

impl Translation for Embed {
    fn request(&self, body: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
        let tei::EmbedRequest { inputs, truncate, normalize, truncation_direction, prompt_name } = read(body)?;
        self.chars.push(&inputs);
        let request = wire::EmbedRequest {
            texts: vec![inputs],
            input_type: input_type(prompt_name.as_deref())?,
            normalize: Some(normalize),
            truncation: truncation(truncate, truncation_direction)?,
            ..Default::default()
        };
        Ok(request.encode_to_vec())
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        let result = ours::<wire::EmbedResponse>(message)?.results.pop().ok_or(Failure::Internal)?;
        let embeddings = match result.result {
            Some(embed_result::Result::Vector(vector)) => vector.values,
            Some(embed_result::Result::Error(error)) => return Err(failure(&error)),
            None => return Err(Failure::Internal),
        };
        let answer = tei::EmbedResponse { embeddings, metadata: work(self.chars.next(), result.tokens) };
        out.put(&answer.encode_to_vec())
    }
}

#[derive(Default)]
struct Predict {
    chars: Chars,
}

impl Translation for Predict {
    fn request(&self, body: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
        let tei::PredictRequest { inputs, truncate, raw_scores, truncation_direction } = read(body)?;
        self.chars.push(&inputs);
        let (texts, truncation) = (vec![inputs], truncation(truncate, truncation_direction)?);
        let request = wire::ClassifyRequest { texts, raw_scores, truncation, ..Default::default() };
        Ok(request.encode_to_vec())
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        let result = ours::<wire::ClassifyResponse>(message)?.results.pop().ok_or(Failure::Internal)?;
        let labels = match result.result {
            Some(classify_result::Result::Classification(labels)) => labels.scores,
            Some(classify_result::Result::Error(error)) => return Err(failure(&error)),
            None => return Err(Failure::Internal),
        };
        let predictions = labels.into_iter().map(|label| tei::Prediction { score: label.score, label: label.label });
        let metadata = work(self.chars.next(), result.tokens);
        out.put(&tei::PredictResponse { predictions: predictions.collect(), metadata }.encode_to_vec())
    }
}

#[derive(Default)]
struct Rerank {
    chars: AtomicU32,
}

impl Translation for Rerank {
    fn request(&self, body: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
        let tei::RerankRequest { query, texts, truncate, raw_scores, return_text, truncation_direction } = read(body)?;
        if raw_scores {
            let reason = "the model's configuration decides the form of its scores; leave it false";
            return Err(Failure::invalid("raw_scores", reason));
        }
        let chars: usize = texts.iter().map(|text| text.chars().count() + query.chars().count()).sum();
        self.chars.store(u32::try_from(chars).unwrap_or(u32::MAX), Ordering::Relaxed);
        let truncation = truncation(truncate, truncation_direction)?;
        let request = wire::RerankRequest { query, texts, with_text: return_text, truncation, ..Default::default() };
        Ok(request.encode_to_vec())
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        let mut tokens = 0u32;
        let mut ranks = Vec::new();
        for result in ours::<wire::RerankResponse>(message)?.results {
            tokens = tokens.saturating_add(result.tokens);
            match result.result {
                Some(rerank_result::Result::Score(score)) => {
                    let text = Some(result.text).filter(|text| !text.is_empty());
                    ranks.push(tei::Rank { index: result.index, text, score });
                }
                Some(rerank_result::Result::Error(error)) => {
                    let (field, ours) = (format!("texts[{}]", result.index), &error.message);
                    let reason = ours.strip_prefix(&format!("{field}: ")).unwrap_or(ours);
                    return Err(Failure::invalid(field, reason));
                }
                None => return Err(Failure::Internal),
            }
        }
        let metadata = work(self.chars.load(Ordering::Relaxed), tokens);
        out.put(&tei::RerankResponse { ranks, metadata }.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::ByteBudget;

    fn answered<M: Message + Default>(translation: &dyn Translation, answer: &impl Message) -> Result<M, Failure> {
        let mut out = Output::new(ByteBudget::new(1 << 20), 1 << 20);
        translation.answer(&answer.encode_to_vec(), &mut out)?;
        Ok(M::decode(out.finish()).expect("a message"))
    }

    fn embedded(result: embed_result::Result, tokens: u32) -> wire::EmbedResponse {
        wire::EmbedResponse { results: vec![wire::EmbedResult { result: Some(result), tokens, ..Default::default() }] }
    }

    #[test]
    fn a_text_that_is_too_long_is_an_error_unless_it_may_be_cut() {
        for (truncate, expected) in [(false, Truncation::Reject), (true, Truncation::End)] {
            let request =
                tei::EmbedRequest { inputs: "a b".to_owned(), truncate, normalize: true, ..Default::default() };
            let ours = Embed::default().request(&request.encode_to_vec(), usize::MAX).unwrap();
            let ours = wire::EmbedRequest::decode(&*ours).unwrap();
            assert_eq!((ours.truncation(), ours.normalize, ours.texts), (expected, Some(true), vec!["a b".to_owned()]));
        }
        let error = Failure::invalid("texts[0]", "300 tokens are more than 256").to_item();
        let failure =
            answered::<tei::EmbedResponse>(&Embed::default(), &embedded(embed_result::Result::Error(error), 0));
        assert_eq!(failure, Err(Failure::invalid("inputs", "300 tokens are more than 256")));
    }

    #[test]
    fn an_answer_counts_characters_and_tokens() {
        let call = Embed::default();
        for inputs in ["né", "abc"] {
            let request = tei::EmbedRequest { inputs: inputs.to_owned(), truncate: true, ..Default::default() };
            call.request(&request.encode_to_vec(), usize::MAX).unwrap();
        }
        let vector = || wire::vector::write(vec![0.5, 0.25], wire::VectorFormat::F32);
        for (chars, tokens) in [(2, 3), (3, 4)] {
            let answer = embedded(embed_result::Result::Vector(vector()), tokens);
            let answer: tei::EmbedResponse = answered(&call, &answer).unwrap();
            assert_eq!((answer.embeddings, answer.metadata), (vec![0.5, 0.25], work(chars, tokens)));
        }
    }

    #[test]
    fn a_wish_that_is_not_honoured_is_refused_by_name() {
        let refused = |translation: &dyn Translation, request: Vec<u8>| {
            let failure = translation.request(&request, usize::MAX).unwrap_err();
            tonic::Status::from(failure).message().split(':').next().unwrap_or_default().to_owned()
        };
        let raw = tei::RerankRequest { query: "q".to_owned(), raw_scores: true, ..Default::default() };
        assert_eq!(refused(&Rerank::default(), raw.encode_to_vec()), "raw_scores");
        let left = tei::EmbedRequest { truncation_direction: 1, ..Default::default() };
        assert_eq!(refused(&Embed::default(), left.encode_to_vec()), "truncation_direction");
        let prompt_name = Some("title".to_owned());
        let unknown = tei::EmbedRequest { prompt_name: prompt_name.clone(), ..Default::default() };
        assert_eq!(refused(&Embed::default(), unknown.encode_to_vec()), "prompt_name");
        let unknown = tei::EncodeRequest { prompt_name, ..Default::default() };
        assert_eq!(refused(&tokenize::Tokenize, unknown.encode_to_vec()), "prompt_name");
        for known in ["query", "document", "passage"] {
            assert!(input_type(Some(known)).is_ok_and(|kind| kind != 0), "{known}");
        }
    }

    #[test]
    fn a_call_without_a_counterpart_says_why() {
        for (path, word) in [
            ("Embed/EmbedSparse", "sparse"),
            ("Embed/EmbedSparseStream", "sparse"),
            ("Embed/EmbedAll", "single tokens"),
            ("Predict/PredictPairStream", "single texts"),
            ("Rerank/RerankStream", "all texts"),
            ("Tokenize/DecodeStream", "no texts of tokens"),
            ("Embed/Other", "does not exist"),
        ] {
            let Some(Err(failure)) = rpc(&format!("/tei.v1.{path}")) else { panic!("{path} has no counterpart") };
            let status = tonic::Status::from(failure);
            assert_eq!(status.code(), tonic::Code::Unimplemented);
            assert!(status.message().contains(word), "{path}: {}", status.message());
        }
        assert!(rpc("/cognate.v1.Cognate/Embed").is_none());
    }
}

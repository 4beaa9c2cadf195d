//! The messages of `proto/tei/v1/tei.proto`. A test calls each rpc with a client that reads that file.

/// Empty.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoRequest {}

/// The embedding model and limits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoResponse {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, optional, tag = "2")]
    pub sha: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub docker_label: Option<String>,
    #[prost(string, tag = "4")]
    pub model_id: String,
    #[prost(string, optional, tag = "5")]
    pub model_sha: Option<String>,
    #[prost(string, tag = "6")]
    pub model_dtype: String,
    #[prost(int32, tag = "7")]
    pub model_type: i32,
    #[prost(uint32, tag = "8")]
    pub max_concurrent_requests: u32,
    #[prost(uint32, tag = "9")]
    pub max_input_length: u32,
    #[prost(uint32, tag = "10")]
    pub max_batch_tokens: u32,
    #[prost(uint32, optional, tag = "11")]
    pub max_batch_requests: Option<u32>,
    #[prost(uint32, tag = "12")]
    pub max_client_batch_size: u32,
    #[prost(uint32, tag = "13")]
    pub tokenization_workers: u32,
}

/// The work of an answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    #[prost(uint32, tag = "1")]
    pub compute_chars: u32,
    #[prost(uint32, tag = "2")]
    pub compute_tokens: u32,
    #[prost(uint64, tag = "3")]
    pub total_time_ns: u64,
    #[prost(uint64, tag = "4")]
    pub tokenization_time_ns: u64,
    #[prost(uint64, tag = "5")]
    pub queue_time_ns: u64,
    #[prost(uint64, tag = "6")]
    pub inference_time_ns: u64,
}

/// The side at which a text is cut: the end if it is 0.
pub type TruncationDirection = i32;

/// A text to embed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EmbedRequest {
    #[prost(string, tag = "1")]
    pub inputs: String,
    #[prost(bool, tag = "2")]
    pub truncate: bool,
    #[prost(bool, tag = "3")]
    pub normalize: bool,
    #[prost(int32, tag = "4")]
    pub truncation_direction: TruncationDirection,
    #[prost(string, optional, tag = "5")]
    pub prompt_name: Option<String>,
}

/// A vector.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EmbedResponse {
    #[prost(float, repeated, tag = "1")]
    pub embeddings: Vec<f32>,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<Metadata>,
}

/// A text to classify.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PredictRequest {
    #[prost(string, tag = "1")]
    pub inputs: String,
    #[prost(bool, tag = "2")]
    pub truncate: bool,
    #[prost(bool, tag = "3")]
    pub raw_scores: bool,
    #[prost(int32, tag = "4")]
    pub truncation_direction: TruncationDirection,
}

/// A label.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Prediction {
    #[prost(float, tag = "1")]
    pub score: f32,
    #[prost(string, tag = "2")]
    pub label: String,
}

/// The labels of a text, best first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PredictResponse {
    #[prost(message, repeated, tag = "1")]
    pub predictions: Vec<Prediction>,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<Metadata>,
}

/// A query and texts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RerankRequest {
    #[prost(string, tag = "1")]
    pub query: String,
    #[prost(string, repeated, tag = "2")]
    pub texts: Vec<String>,
    #[prost(bool, tag = "3")]
    pub truncate: bool,
    #[prost(bool, tag = "4")]
    pub raw_scores: bool,
    #[prost(bool, tag = "5")]
    pub return_text: bool,
    #[prost(int32, tag = "6")]
    pub truncation_direction: TruncationDirection,
}

/// A text with its score.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rank {
    #[prost(uint32, tag = "1")]
    pub index: u32,
    #[prost(string, optional, tag = "2")]
    pub text: Option<String>,
    #[prost(float, tag = "3")]
    pub score: f32,
}

/// The texts, best first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RerankResponse {
    #[prost(message, repeated, tag = "1")]
    pub ranks: Vec<Rank>,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<Metadata>,
}

/// A text to tokenise.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncodeRequest {
    #[prost(string, tag = "1")]
    pub inputs: String,
    #[prost(bool, tag = "2")]
    pub add_special_tokens: bool,
    #[prost(string, optional, tag = "3")]
    pub prompt_name: Option<String>,
}

/// A token.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SimpleToken {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(string, tag = "2")]
    pub text: String,
    #[prost(bool, tag = "3")]
    pub special: bool,
    #[prost(uint32, optional, tag = "4")]
    pub start: Option<u32>,
    #[prost(uint32, optional, tag = "5")]
    pub stop: Option<u32>,
}

/// The tokens of a text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncodeResponse {
    #[prost(message, repeated, tag = "1")]
    pub tokens: Vec<SimpleToken>,
}

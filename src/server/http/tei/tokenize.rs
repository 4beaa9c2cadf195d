//! `tei.v1.Tokenize`: the tokens of one text.

use prost::Message;

use super::codec::{failure, ours, read};
use super::messages as tei;
use crate::rpc::status::Failure;
use crate::server::http::translation::{Output, Translation};
use crate::wire;

/// A call, or a stream.
pub struct Tokenize;

impl Translation for Tokenize {
    fn request(&self, body: &[u8], _: usize) -> Result<Vec<u8>, Failure> {
        let tei::EncodeRequest { inputs, add_special_tokens, prompt_name } = read(body)?;
        if prompt_name.is_some() {
            return Err(Failure::invalid("prompt_name", "a text is tokenised by itself; put the prompt before it"));
        }
        Ok(wire::TokenizeRequest {
            texts: vec![inputs],
            without_special_tokens: !add_special_tokens,
            ..Default::default()
        }
        .encode_to_vec())
    }

    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure> {
        let result = ours::<wire::TokenizeResponse>(message)?.results.pop().ok_or(Failure::Internal)?;
        if let Some(error) = &result.error {
            return Err(failure(error));
        }
        let token = |token: wire::Token| {
            let wire::Token { id, text, special, start, end } = token;
            let (start, stop) = if special { (None, None) } else { (Some(start), Some(end)) };
            tei::SimpleToken { id, text, special, start, stop }
        };
        let tokens = result.tokens.into_iter().map(token).collect();
        out.put(&tei::EncodeResponse { tokens }.encode_to_vec())
    }
}

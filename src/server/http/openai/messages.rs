//! Items of an encoded answer, one at a time: the whole of it is never decoded.

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::rpc::status::Failure;

/// The messages of the repeated field 1 of a message that has no other field.
pub fn items(mut message: &[u8]) -> impl Iterator<Item = Result<&[u8], Failure>> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let item = item(&mut message);
        if item.is_err() {
            message = &[];
        }
        Some(item)
    })
}

fn item<'m>(message: &mut &'m [u8]) -> Result<&'m [u8], Failure> {
    // The service made the message, so only a fault of the server ends here.
    let (field, kind) = decode_key(message).map_err(|_| Failure::Internal)?;
    let length = decode_varint(message).map_err(|_| Failure::Internal)?;
    let is_item = field == 1 && kind == WireType::LengthDelimited;
    let (item, rest) = usize::try_from(length)
        .ok()
        .and_then(|length| message.split_at_checked(length))
        .filter(|_| is_item)
        .ok_or(Failure::Internal)?;
    *message = rest;
    Ok(item)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::{EmbedResponse, EmbedResult};

    #[test]
    fn the_items_are_those_of_the_message() {
        let results: Vec<EmbedResult> = (0..3).map(|tokens| EmbedResult { tokens, ..Default::default() }).collect();
        let message = EmbedResponse { results: results.clone() }.encode_to_vec();
        let read: Vec<EmbedResult> = items(&message).map(|item| EmbedResult::decode(item.unwrap()).unwrap()).collect();
        assert_eq!(read, results);
        assert_eq!(items(&message[..message.len() - 1]).last(), Some(Err(Failure::Internal)));
    }
}

//! The message that is written while its JSON is read.
//!
//! Invariant: it is no larger than its limit by more than the value that was written last.

use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use prost_reflect::FieldDescriptor;

use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// A step from a message to a value in it.
pub enum Step {
    /// A field.
    Field(FieldDescriptor),
    /// An item of a list.
    Item(usize),
    /// The value of a key.
    Key(String),
}

/// The message so far.
pub struct Writer {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Bytes that it may have.
    pub limit: usize,
    /// The place of the value that is being read.
    pub path: Vec<Step>,
    /// The reason why it is refused.
    pub failure: Option<Failure>,
}

impl Writer {
    /// The path of the value that is being read, as errors name it.
    pub fn shown_path(&self) -> String {
        let mut shown = String::new();
        for step in &self.path {
            let name = match step {
                Step::Item(n) => {
                    shown += &format!("[{n}]");
                    continue;
                }
                Step::Field(field) => field.name(),
                Step::Key(key) => key,
            };
            shown += if shown.is_empty() { "" } else { "." };
            shown += name;
        }
        shown
    }

    /// Refuses the value that is being read.
    pub fn refuse<E: serde::de::Error>(&mut self, reason: impl fmt::Display) -> E {
        let path = self.shown_path();
        self.failure = Some(match path.is_empty() {
            true => Failure::Malformed(format!("the JSON cannot be read: {reason}")),
            false => Failure::invalid(path, reason.to_string()),
        });
        E::custom("refused")
    }

    /// Fails if the message has become too large.
    pub fn check<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.bytes.len() > self.limit {
            self.failure = Some(Refusal::TooLarge { bytes: None, limit: self.limit }.into());
            return Err(E::custom("too large"));
        }
        Ok(())
    }

    /// Writes the key of a field.
    pub fn key(&mut self, number: u32, wire: WireType) {
        encode_key(number, wire, &mut self.bytes);
    }

    /// Writes a field of bytes.
    pub fn field<E: serde::de::Error>(&mut self, number: u32, bytes: &[u8]) -> Result<(), E> {
        self.key(number, WireType::LengthDelimited);
        encode_varint(bytes.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(bytes);
        self.check()
    }

    /// Writes a field whose bytes `write` writes, behind their length.
    pub fn nested<E: serde::de::Error>(
        &mut self,
        number: u32,
        write: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.key(number, WireType::LengthDelimited);
        let at = self.bytes.len();
        self.bytes.push(0);
        write(self)?;
        let length = (self.bytes.len() - at - 1) as u64;
        // Most lengths have one byte; the bytes behind a longer one are moved.
        let more = encoded_len_varint(length) - 1;
        self.bytes.splice(at..at, std::iter::repeat_n(0, more));
        let mut place = &mut self.bytes[at..=at + more];
        encode_varint(length, &mut place);
        self.check()
    }
}

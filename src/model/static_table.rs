//! The table of a model of static vectors: one vector for each token, whatever the other tokens are. The vector of a
//! text is their mean.
//!
//! Two libraries write such models into `model.safetensors`, and the name of the table tells them apart:
//!
//! - model2vec: `embeddings`. Beside it may be `weights`, a factor for each token, and `mapping`, the row of each
//!   token. Unknown tokens of a text are dropped, and `max_length` of `config.json` holds.
//! - sentence-transformers (`StaticEmbedding`): `embedding.weight`. Every token counts, and `truncation` of
//!   `tokenizer.json` holds.
//!
//! Invariant: each range of bytes that this module returns lies in the file, and has the length of its shape. The
//! numbers are read by the embedder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::error::CardError;
use super::file::{read_json, read_json_if_present, require};

/// The most bytes of a header: that of safetensors' own reader is 100 MB, for thousands of tensors.
const MOST_HEADER_BYTES: u64 = 1 << 20;

/// The length of a text that model2vec reads if `config.json` does not say it.
const USUAL_MAX_TOKENS: usize = 512;

/// The length of a text of a model without a limit. It takes half of the default queue.
pub(super) const MOST_TOKENS: usize = 1 << 17;

/// A table of static vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticTable {
    /// The safetensors file.
    pub path: PathBuf,
    /// The vectors of the table.
    pub rows: usize,
    /// The length of a vector.
    pub dimensions: usize,
    /// [rows, dimensions]
    pub vectors: Numbers,
    /// The factor of each token.
    pub weights: Option<Numbers>,
    /// The row of each token. Without it, the token's id is its row.
    pub mapping: Option<Numbers>,
    /// The model is model2vec's: unknown tokens are dropped.
    pub drops_unknown: bool,
}

impl StaticTable {
    /// Returns the number of tokens that have a vector.
    pub fn tokens(&self) -> usize {
        let counts = [&self.weights, &self.mapping].into_iter().flatten().map(|numbers| numbers.count);
        counts.min().map_or(self.rows, |tokens| if self.mapping.is_some() { tokens } else { tokens.min(self.rows) })
    }
}

/// A tensor in the file, row-major and little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// The type of its numbers.
    pub kind: NumberKind,
    /// Its bytes in the file.
    pub bytes: Range<usize>,
    /// Its numbers.
    pub count: usize,
}

/// The type of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are those of the format")]
pub enum NumberKind {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I8,
}

impl NumberKind {
    /// Returns the bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 => 1,
        }
    }
}

/// The types of vectors, of factors, and of rows.
const VECTORS: [NumberKind; 5] = [NumberKind::F64, NumberKind::F32, NumberKind::F16, NumberKind::Bf16, NumberKind::I8];
const FACTORS: [NumberKind; 4] = [NumberKind::F64, NumberKind::F32, NumberKind::F16, NumberKind::Bf16];
const ROWS: [NumberKind; 2] = [NumberKind::I64, NumberKind::I32];

/// A tensor in the header of a safetensors file.
#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header of a safetensors file.
struct Header {
    path: PathBuf,
    tensors: BTreeMap<String, Value>,
    /// The first byte after the header.
    start: usize,
    file_bytes: usize,
}

/// The fields of `config.json` that matter.
#[derive(Default, Deserialize)]
struct Config {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    /// `null` is no limit.
    #[serde(default = "usual_max_length")]
    max_length: Value,
}

fn usual_max_length() -> Value {
    USUAL_MAX_TOKENS.into()
}

/// Returns whether a directory without `modules.json` is a model of model2vec. Its older versions write no type.
pub(super) fn is_model2vec(directory: &Path) -> Result<bool, CardError> {
    let Some(config) = read_json_if_present::<Config>(&directory.join("config.json"))? else { return Ok(false) };
    Ok(match (config.model_type.as_deref(), &config.architectures) {
        (Some("model2vec"), _) => true,
        (None, Some(classes)) => classes.iter().any(|class| class == "StaticModel"),
        (None, None) => {
            Header::read(&directory.join(WEIGHTS)).is_ok_and(|header| header.tensors.contains_key(MODEL2VEC))
        }
        _ => false,
    })
}

/// The file of the table.
const WEIGHTS: &str = "model.safetensors";

/// The name of model2vec's table.
const MODEL2VEC: &str = "embeddings";

/// The name of sentence-transformers' table.
const STATIC_EMBEDDING: &str = "embedding.weight";

/// Finds the file of the table.
pub(super) fn file(directory: &Path) -> Result<PathBuf, CardError> {
    let path = directory.join(WEIGHTS);
    require(&path, "; a table of static vectors is read from safetensors only")?;
    Ok(path)
}

/// Reads the shape of the table, and the length of a text by `config.json`: `None` if `tokenizer.json` has it.
pub(super) fn read(path: &Path, config: &Path) -> Result<(StaticTable, Option<usize>), CardError> {
    let header = Header::read(path)?;
    let drops_unknown = header.tensors.contains_key(MODEL2VEC);
    let name = if drops_unknown { MODEL2VEC } else { STATIC_EMBEDDING };
    let Some((shape, vectors)) = header.tensor(name, &VECTORS)? else {
        let names = header.tensors.keys().filter(|name| !name.starts_with("__")).cloned().collect::<Vec<_>>();
        let supported = "embeddings, as model2vec writes it, or embedding.weight, as sentence-transformers does";
        return Err(CardError::unsupported(path, "the list of tensors", names.join(", "), supported));
    };
    let [rows, dimensions] = shape[..] else {
        return Err(header.malformed(format!("{name} has the shape {shape:?}, and must be a table")));
    };
    if rows == 0 || dimensions == 0 {
        return Err(header.malformed(format!("{name} has the shape {shape:?}, and must not be empty")));
    }
    let (weights, mapping) = (header.list("weights", &FACTORS)?, header.list("mapping", &ROWS)?);
    if !drops_unknown && (weights.is_some() || mapping.is_some()) {
        let supported = "embeddings beside weights and mapping, because the two libraries read other names otherwise";
        return Err(CardError::unsupported(path, "the table", STATIC_EMBEDDING, supported));
    }
    let length = if drops_unknown { Some(max_length(config)?) } else { None };
    Ok((StaticTable { path: path.to_owned(), rows, dimensions, vectors, weights, mapping, drops_unknown }, length))
}

/// Reads the length of a text from model2vec's `config.json`.
fn max_length(path: &Path) -> Result<usize, CardError> {
    let length = match path.exists() {
        true => read_json::<Config>(path)?.max_length,
        false => usual_max_length(),
    };
    match length {
        Value::Null => Ok(MOST_TOKENS),
        length => match length.as_u64().and_then(|length| usize::try_from(length).ok()) {
            Some(length) if length > 0 => Ok(length.min(MOST_TOKENS)),
            _ => {
                let problem = format!("max_length is {length}, and must be a positive number or null");
                Err(CardError::malformed(path, problem))
            }
        },
    }
}

impl Header {
    fn read(path: &Path) -> Result<Self, CardError> {
        let unreadable = |source| CardError::Unreadable { path: path.to_owned(), source };
        let damaged = |problem: String| {
            CardError::malformed(path, format!("{problem}: it is not a whole safetensors file; fetch or copy it again"))
        };
        require(path, "")?;
        let mut file = File::open(path).map_err(unreadable)?;
        let file_bytes = file.metadata().map_err(unreadable)?.len();
        let mut length = [0; 8];
        let read = file.read_exact(&mut length);
        let length = u64::from_le_bytes(length);
        if read.is_err() || length > MOST_HEADER_BYTES || length.saturating_add(8) > file_bytes {
            return Err(damaged(format!(
                "it has {file_bytes} bytes, and its first eight announce a header of {length}"
            )));
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(unreadable)?;
        let tensors = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let file_bytes = usize::try_from(file_bytes).map_err(|_| damaged("it is too large to be mapped".to_owned()))?;
        Ok(Self { path: path.to_owned(), tensors, start: text.len() + 8, file_bytes })
    }

    /// Finds a tensor of one of these types, with its shape.
    fn tensor(&self, name: &str, kinds: &[NumberKind]) -> Result<Option<(Vec<usize>, Numbers)>, CardError> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        let tensor: Tensor =
            serde_json::from_value(tensor.clone()).map_err(|error| self.malformed(format!("{name}: {error}")))?;
        let kind = NumberKind::deserialize(Value::from(tensor.dtype.as_str())).ok();
        let Some(kind) = kind.filter(|kind| kinds.contains(kind)) else {
            let supported = match kinds.contains(&NumberKind::I64) {
                true => "I64 and I32",
                false if kinds.contains(&NumberKind::I8) => "F64, F32, F16, BF16 and I8",
                false => "F64, F32, F16 and BF16",
            };
            return Err(CardError::unsupported(&self.path, format!("the type of {name}"), tensor.dtype, supported));
        };
        let count = tensor.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let (begin, end) = tensor.data_offsets;
        let (begin, end) = (self.start.checked_add(begin), self.start.checked_add(end));
        match (count, begin, end) {
            (Some(count), Some(begin), Some(end))
                if end <= self.file_bytes && count.checked_mul(kind.bytes()) == end.checked_sub(begin) =>
            {
                Ok(Some((tensor.shape, Numbers { kind, bytes: begin..end, count })))
            }
            _ => Err(self.malformed(format!(
                "{name} has the shape {:?} and the bytes {:?} of a file of {}; fetch or copy it again",
                tensor.shape, tensor.data_offsets, self.file_bytes
            ))),
        }
    }

    /// Finds a tensor of one dimension.
    fn list(&self, name: &str, kinds: &[NumberKind]) -> Result<Option<Numbers>, CardError> {
        match self.tensor(name, kinds)? {
            Some((shape, _)) if shape.len() != 1 => {
                Err(self.malformed(format!("{name} has the shape {shape:?}, and must have one dimension")))
            }
            found => Ok(found.map(|(_, numbers)| numbers)),
        }
    }

    fn malformed(&self, problem: String) -> CardError {
        CardError::malformed(&self.path, problem)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    /// Writes a safetensors file: names, types, shapes and bytes.
    fn write(directory: &Path, tensors: &[(&str, &str, &[usize], usize)]) -> PathBuf {
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        for (name, dtype, shape, bytes) in tensors {
            let tensor = json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]});
            header.insert((*name).to_owned(), tensor);
            end += bytes;
        }
        let header = Value::Object(header).to_string();
        let path = directory.join(WEIGHTS);
        fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; end]].concat()).unwrap();
        path
    }

    fn read_one(
        tensors: &[(&str, &str, &[usize], usize)],
        config: &str,
    ) -> Result<(StaticTable, Option<usize>), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = write(directory.path(), tensors);
        fs::write(directory.path().join("config.json"), config).unwrap();
        read(&path, &directory.path().join("config.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn both_libraries_tables_are_read_with_their_tokens_and_lengths() {
        let (table, length) = read_one(&[("embeddings", "F16", &[4, 2], 16)], "{}").unwrap();
        assert_eq!((table.rows, table.dimensions, table.tokens(), length), (4, 2, 4, Some(512)));
        assert!(table.drops_unknown && table.vectors.kind == NumberKind::F16 && table.vectors.count == 8);
        let mapped = [("embeddings", "I8", &[4, 2][..], 8), ("mapping", "I64", &[6], 48), ("weights", "F32", &[5], 20)];
        let (table, length) = read_one(&mapped, r#"{"max_length": 7}"#).unwrap();
        assert_eq!((table.tokens(), length), (5, Some(7)));
        assert_eq!(read_one(&mapped, r#"{"max_length": null}"#).unwrap().1, Some(MOST_TOKENS));
        let (table, length) = read_one(&[("embedding.weight", "BF16", &[3, 2], 12)], "{}").unwrap();
        assert_eq!((table.tokens(), table.drops_unknown, length), (3, false, None));
    }

    #[test]
    fn a_table_that_cannot_be_used_is_refused_by_name() {
        let table = ("embeddings", "F32", &[2, 2][..], 16);
        for (tensors, config, reason) in [
            (&[("vectors", "F32", &[2, 2][..], 16)][..], "{}", "the list of tensors is vectors"),
            (&[("embeddings", "U8", &[2, 2], 4)], "{}", "the type of embeddings is U8"),
            (&[("embeddings", "F32", &[4], 16)], "{}", "has the shape [4], and must be a table"),
            (&[("embeddings", "F32", &[0, 4], 0)], "{}", "must not be empty"),
            (&[("embeddings", "F32", &[2, 2], 12)], "{}", "embeddings has the shape [2, 2] and the bytes (0, 12)"),
            (&[("embeddings", "F32", &[usize::MAX, 2], 16)], "{}", "embeddings has the shape"),
            (&[table, ("mapping", "F32", &[2], 8)], "{}", "the type of mapping is F32"),
            (&[table, ("weights", "I8", &[2], 2)], "{}", "the type of weights is I8"),
            (&[table, ("weights", "F32", &[2, 1], 8)], "{}", "weights has the shape [2, 1]"),
            (
                &[("embedding.weight", "F32", &[2, 2], 16), ("weights", "F32", &[2], 8)],
                "{}",
                "the table is embedding.weight",
            ),
            (&[table], r#"{"max_length": 0}"#, "max_length is 0"),
            (&[table], r#"{"max_length": "long"}"#, "max_length is \"long\""),
        ] {
            let error = read_one(tensors, config).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_cut_short_or_of_another_kind_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(directory.path(), &[("embeddings", "F32", &[2, 2], 16)]);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 1], &whole[..20], &whole[..3], b"not a safetensors file at all", &[255; 9]]
        {
            fs::write(&path, bytes).unwrap();
            let error = read(&path, &directory.path().join("config.json")).unwrap_err().to_string();
            assert!(error.contains("model.safetensors") && error.contains("fetch or copy it again"), "{error}");
        }
    }
}

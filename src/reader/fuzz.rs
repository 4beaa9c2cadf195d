//! The fuzz target for files: any bytes are read as records.

use super::{Format, Options, read};

/// Reads a file; the first byte selects the format.
pub(crate) fn file(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else { return };
    let format = match kind % 5 {
        0 => Format::Jsonl,
        1 => Format::Csv,
        2 => Format::Tsv,
        3 => Format::Lines,
        _ => Format::Whole,
    };
    let Ok(records) = read(content, &Options::new(format, "file")) else { return };
    for record in records.map_while(Result::ok) {
        assert!(record.end <= content.len() as u64 + 1, "it ends at {}", record.end);
        if let Ok(document) = record.document {
            assert!(!document.id.is_empty());
        }
    }
}

pub(crate) fn files() -> Vec<Vec<u8>> {
    let files = [
        "\0{\"id\": \"a\", \"text\": \"x\", \"metadata\": {\"n\": 1}, \"year\": 2020}\n\
         {\"text\": \"y\", \"vector\": [1, 0]}\n\n[]",
        "\0[{\"id\": 100000000000000000001, \"text\": \"x\"},\n {\"text\": \"y\"}]",
        "\u{1}id,text,lang\na,\"x, \"\"y\"\"\",en\n,y,\nb,c",
        "\u{2}id\ttext\tn\na\tx\t1\n",
        "\u{3}one\r\ntwo\n\n  three",
        "\u{4}one\r\ntwo",
    ];
    files.map(|file| file.as_bytes().to_vec()).into()
}

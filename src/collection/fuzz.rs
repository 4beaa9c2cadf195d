//! Fuzz targets: filters and metadata of arbitrary bytes.

use serde_json::{Map, Value, json};

use super::columns::Columns;
use super::columns::evaluate::{self, Corpus};
use super::filter::{Filter, Path, text};
use crate::compute::stop::Stop;

/// Checks that the text of a filter, once parsed, prints to a text that parses to the same filter.
pub(crate) fn filter_text(bytes: &[u8]) {
    let Ok(written) = std::str::from_utf8(bytes) else { return };
    for path in Path::readings(written).unwrap_or_default() {
        assert!(Path::readings(&path.to_string()).is_some_and(|readings| readings.contains(&path)), "{path}");
    }
    match text::parse(written) {
        Ok(filter) => assert_eq!(text::parse(&filter.to_string()).as_ref(), Ok(&filter)),
        Err(error) => assert!(error.to_string().len() < 512),
    }
}

pub(crate) fn filter_texts() -> Vec<Vec<u8>> {
    let texts = [
        "lang = \"en\" and (year >= 2020 or not draft = true)",
        "\"a.b\".c.'' in (1, -2.5e3, null, true, 'it\\'s') or a != x",
        "1 <= a.b < 2 and c exists",
        "a.b",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// Documents for evaluating a filter by columns and one by one.
#[derive(Default)]
struct Documents {
    columns: Columns,
    metadata: Vec<Map<String, Value>>,
}

impl Corpus for Documents {
    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn holds(&self, position: u32, filter: &Filter) -> bool {
        self.metadata.get(position as usize).is_some_and(|metadata| filter.matches(metadata))
    }
}

/// Checks lines that hold a filter and then one document's metadata each: the columns find what the plain way
/// finds, and nothing is left of removed documents.
pub(crate) fn columns(bytes: &[u8]) {
    let Ok(lines) = std::str::from_utf8(bytes) else { return };
    let mut lines = lines.lines();
    let Some(Ok(filter)) = lines.next().map(text::parse) else { return };
    let mut here = Documents::default();
    for metadata in lines.filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok()) {
        let (told, before) = (here.columns.cost_of(Some(&metadata)), here.columns.bytes());
        here.columns.insert(here.metadata.len() as u32, Some(&metadata));
        assert!(here.columns.bytes() <= before + told);
        here.metadata.push(metadata);
    }
    let found = evaluate::matching(&filter, &|| &here, &Stop::never()).expect("nobody stops it");
    let expected =
        (0..).zip(&here.metadata).filter(|(_, metadata)| filter.matches(metadata)).map(|(position, _)| position);
    assert!(found.iter().eq(expected), "{filter}");
    for (position, metadata) in (0..).zip(&here.metadata) {
        here.columns.remove(position, Some(metadata));
    }
    assert_eq!((here.columns.bytes(), here.columns.n_fields()), (0, 0));
}

pub(crate) fn column_seeds() -> Vec<Vec<u8>> {
    let documents = [json!({"a": {"b": 1}, "c": ["x", "x", 2]}), json!({"a": [{"b": 2}, {"b": [3]}], "": null})];
    let lines = documents.iter().map(|document| format!("\n{document}")).collect::<String>();
    ["1 < a.b <= 3 and not c = x", "'' exists or c in (x, 2)"]
        .map(|filter| format!("{filter}{lines}").into_bytes())
        .into()
}

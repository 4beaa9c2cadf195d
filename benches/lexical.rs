//! Compares searches by words with tantivy alone, on the same texts and queries in one process: queries per second of
//! one thread, the ten best, without a filter and with one that a tenth of the documents match.
//!
//! Run `cargo bench --bench lexical`. Both take turns, and the best rounds are compared. tantivy alone is what a
//! program gets that uses it directly: one segment in memory, its default tokenizer, BM25, and addresses of documents
//! as the answer. The index of the collection has segments and a part that is not sealed yet, and it computes scores
//! that do not depend on that division. `COGNATE_CORPUS=FILE` names a file with one text on each line. By default the
//! texts are made from the example.

#[allow(dead_code, unused_imports, reason = "other benches use the rest")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use std::hint::black_box;
use std::time::Instant;

use cognate::compute::stop::Stop;
use cognate::lexical::LexicalIndex;
use roaring::RoaringBitmap;
use tantivy::collector::TopDocs;
use tantivy::directory::RamDirectory;
use tantivy::query::{BooleanQuery, ConstScoreQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{Index, Searcher, TantivyDocument, Term};

const K: usize = 10;
const QUERIES: usize = 1_000;
const TEXTS_A_COMMIT: usize = 256;
/// Documents that the last commits brought: they are in no segment yet.
const UNSEALED: usize = 2_000;
const TENTH: &str = "0";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    // Without `--bench`, `cargo test` is the caller: a few texts show that the bench runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let mut texts = texts()?;
    texts.truncate(if measuring { usize::MAX } else { 500 });
    let rounds = if measuring { 5 } else { 1 };
    let (ours, peer) = (indexed(&texts), Peer::of(&texts)?);
    let tenth: RoaringBitmap = (0..texts.len() as u32).filter(|n| n.is_multiple_of(10)).collect();
    println!("{} texts; queries per second", texts.len());
    println!("{:>6} {:>9} {:>10} {:>10} {:>6}", "words", "filter", "Cognate", "tantivy", "share");
    for words in [1, 2, 6] {
        let every = texts.len().div_ceil(QUERIES);
        let queries: Vec<String> = texts.iter().step_by(every).map(|text| first_words(text, words)).collect();
        for filter in [None, Some(&tenth)] {
            let rate = |search: &mut dyn FnMut(&str) -> usize| {
                let begun = Instant::now();
                black_box(queries.iter().map(|query| search(query)).sum::<usize>());
                queries.len() as f64 / begun.elapsed().as_secs_f64()
            };
            let (mut ours_best, mut peer_best) = (0.0f64, 0.0f64);
            for _ in 0..rounds {
                let mut search_ours = |query: &str| {
                    let question = ours.question(ours.snapshot(), query);
                    question.best(K, filter, &Stop::never()).expect("the search is not stopped").len()
                };
                ours_best = ours_best.max(rate(&mut search_ours));
                peer_best = peer_best.max(rate(&mut |query| peer.search(query, filter.is_some())));
            }
            let filter = filter.map_or("none", |_| "a tenth");
            println!("{words:>6} {filter:>9} {ours_best:>10.0} {peer_best:>10.0} {:>6.2}", ours_best / peer_best);
        }
    }
    Ok(())
}

fn first_words(text: &str, n: usize) -> String {
    text.split_whitespace().take(n).collect::<Vec<_>>().join(" ")
}

fn texts() -> Result<Vec<String>> {
    if let Some(path) = std::env::var_os("COGNATE_CORPUS") {
        return Ok(std::fs::read_to_string(path)?.lines().map(str::to_owned).collect());
    }
    Ok(workload::dictionary().into_iter().map(|(word, gloss)| format!("{word}: {gloss}")).collect())
}

/// The index of a collection; the position of a text is its number.
fn indexed(texts: &[String]) -> LexicalIndex {
    let index = LexicalIndex::new(None);
    let commit = |from: usize, to: usize| {
        let prepared = index.prepare((from..to).map(|n| (n as u64, texts[n].as_str())));
        index.apply(prepared, |key| key as u32, &[]);
        index.join_batches();
    };
    let sealed = texts.len().saturating_sub(UNSEALED);
    (0..sealed).step_by(TEXTS_A_COMMIT).for_each(|from| {
        commit(from, sealed.min(from + TEXTS_A_COMMIT));
        index.seal_if_large();
    });
    index.maintain();
    (sealed..texts.len()).step_by(TEXTS_A_COMMIT).for_each(|from| {
        commit(from, texts.len().min(from + TEXTS_A_COMMIT));
    });
    index
}

/// tantivy alone.
struct Peer {
    searcher: Searcher,
    analyzer: TextAnalyzer,
    text: Field,
    tenth: Field,
}

impl Peer {
    fn of(texts: &[String]) -> Result<Self> {
        let mut schema = Schema::builder();
        let indexing = TextFieldIndexing::default()
            .set_tokenizer("default")
            .set_index_option(IndexRecordOption::WithFreqs)
            .set_fieldnorms(true);
        let text = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
        let tenth = schema.add_text_field("tenth", STRING);
        let builder = Index::builder().schema(schema.build());
        let mut writer = builder.single_segment_index_writer(RamDirectory::create(), 200 << 20)?;
        for (n, one) in texts.iter().enumerate() {
            let mut document = TantivyDocument::default();
            document.add_text(text, one);
            document.add_text(tenth, (n % 10).to_string());
            writer.add_document(document)?;
        }
        let index = writer.finalize()?;
        let analyzer = index.tokenizer_for_field(text)?;
        Ok(Self { searcher: index.reader()?.searcher(), analyzer, text, tenth })
    }

    fn search(&self, query: &str, filtered: bool) -> usize {
        let mut terms: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        self.analyzer.clone().token_stream(query).process(&mut |token| {
            let term = Term::from_field_text(self.text, &token.text);
            terms.push((Occur::Should, Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))));
        });
        let words: Box<dyn Query> = Box::new(BooleanQuery::new(terms));
        let query = if filtered {
            let tenth = Term::from_field_text(self.tenth, TENTH);
            let tenth = Box::new(TermQuery::new(tenth, IndexRecordOption::Basic));
            let tenth = Box::new(ConstScoreQuery::new(tenth, 0.0));
            Box::new(BooleanQuery::new(vec![(Occur::Must, words), (Occur::Must, tenth)]))
        } else {
            words
        };
        self.searcher.search(&query, &TopDocs::with_limit(K).order_by_score()).expect("the index is in memory").len()
    }
}

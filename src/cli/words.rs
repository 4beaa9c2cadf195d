//! Words on the command line: the flags for searches by words, and the parts of a score.

use super::table;
use crate::wire::{Fusion, Hit, Lexical, Query, SearchMode, TopKRequest};

/// The way in which documents are ranked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// By vectors: what means nearly the same
    #[default]
    Vector,
    /// By words: what has the words of the query, by BM25
    Lexical,
    /// By both
    Hybrid,
}

/// The way in which two orders become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// By weighted scores
    Scores,
    /// By reciprocal ranks
    Ranks,
}

/// The flags of a search.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Search {
    /// Rank by vectors, by words, or by both
    #[arg(long, value_enum, default_value_t, value_name = "MODE", conflicts_with_all = ["candidate", "candidates"])]
    mode: Mode,
    /// Fuse both by weighted scores or by reciprocal ranks; with --mode hybrid [default: scores]
    #[arg(long, value_enum, value_name = "WAY")]
    fusion: Option<By>,
    /// Weight of words, where that of vectors is 1; with --mode hybrid [default: 1, with ranks 0.5]
    #[arg(long, value_name = "WEIGHT")]
    lexical_weight: Option<f32>,
    /// Words to search for, instead of those of the query; with --mode hybrid, and required there for --id
    #[arg(long, value_name = "TEXT")]
    lexical_text: Option<String>,
}

impl Search {
    /// Sets the fields of a request.
    pub fn fill(&self, request: &mut TopKRequest) {
        request.mode = match self.mode {
            Mode::Vector => SearchMode::Vector,
            Mode::Lexical => SearchMode::Lexical,
            Mode::Hybrid => SearchMode::Hybrid,
        }
        .into();
        let fusion = |by| if by == By::Scores { Fusion::WeightedScores } else { Fusion::ReciprocalRanks };
        request.fusion = self.fusion.map_or(Fusion::Unspecified, fusion).into();
        request.lexical_weight = self.lexical_weight;
    }

    /// Sets the fields of a query.
    pub fn fill_query(&self, query: &mut Query) {
        query.lexical_text = self.lexical_text.clone().unwrap_or_default();
    }
}

/// The flags of a new collection.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Index {
    /// Language of the texts (en, de, fr, ...): searches by words go by stems, and leave stop words out
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
    /// Search the collection by vectors alone
    #[arg(long, conflicts_with = "language")]
    no_words: bool,
}

impl Index {
    /// The setting of a request.
    pub fn wire(&self) -> Lexical {
        Lexical { enabled: Some(!self.no_words), language: self.language.clone().unwrap_or_default() }
    }
}

/// The share of the best score that a hit has, for a bar; the score itself if it is a cosine.
pub fn bar_share(hit: &Hit, best: f32) -> f32 {
    if hit.scores.is_some() && best > 0.0 { hit.score / best } else { hit.score }
}

/// The parts of a hit's score as cells: by vectors, by words.
pub fn parts(hit: &Hit) -> [String; 2] {
    let scores = hit.scores.unwrap_or_default();
    [scores.vector, scores.lexical].map(|part| part.map_or_else(String::new, table::score))
}

//! Words in requests: the lexical index of a collection, and the mode of a search.

use super::Limits;
use super::parse;
use super::status::{Failure, shown};
use crate::collection::{Fusion, Mode};
use crate::lexical::{Language, Options};
use crate::wire::{self, SearchMode, query};

/// Weight of words beside scores of vectors: the formula has its own weights (docs/retrieval.md).
const SCORES_WEIGHT: f32 = 1.0;

/// Weight of words beside ranks by vectors: the best of those that were measured.
const RANKS_WEIGHT: f32 = 0.5;

/// Greatest weight: words alone would not rank otherwise.
const MOST_WEIGHT: f32 = 100.0;

/// Parses the settings of a new collection; `None`: no lexical index.
pub fn parse(given: &wire::Lexical) -> Result<Option<Options>, Failure> {
    let (code, field) = (given.language.as_str(), "lexical.language");
    if given.enabled == Some(false) {
        let reason = "is set, but enabled is false: leave it out, or enable the lexical index";
        return if code.is_empty() { Ok(None) } else { Err(Failure::invalid(field, reason)) };
    }
    let language = match code {
        "" => None,
        code => Some(Language::of_code(code).ok_or_else(|| {
            let known: Vec<&str> = Language::codes().collect();
            let reason =
                format!("{} is not one of {}: leave it out for other languages", shown(code), known.join(", "));
            Failure::invalid(field, reason)
        })?),
    };
    Ok(Some(Options { language }))
}

/// Writes the settings of a collection.
pub fn write(options: Option<Options>) -> wire::Lexical {
    let language = options.and_then(|options| options.language).map_or("", Language::code);
    wire::Lexical { enabled: Some(options.is_some()), language: language.to_owned() }
}

/// Parses the mode of a search, with its fusion.
pub fn parse_mode(request: &wire::TopKRequest) -> Result<Mode, Failure> {
    let unknown = |field, value, of| Failure::invalid(field, format!("{value} is not a value of {of}"));
    let mode = SearchMode::try_from(request.mode).map_err(|_| unknown("mode", request.mode, "SearchMode"))?;
    let fusion = wire::Fusion::try_from(request.fusion).map_err(|_| unknown("fusion", request.fusion, "Fusion"))?;
    if !matches!(mode, SearchMode::Unspecified | SearchMode::Vector) && !request.candidates.is_empty() {
        let reason = "applies to a collection, but candidates are given: remove one of them";
        return Err(Failure::invalid("mode", reason));
    }
    if mode != SearchMode::Hybrid {
        for (field, is_set) in [("fusion", request.fusion != 0), ("lexical_weight", request.lexical_weight.is_some())] {
            if is_set {
                return Err(Failure::invalid(field, "applies to SEARCH_MODE_HYBRID: set that mode, or leave it out"));
            }
        }
    }
    match mode {
        SearchMode::Hybrid => parse_fusion(fusion, request.lexical_weight).map(Mode::Hybrid),
        SearchMode::Lexical => {
            let of_vectors = [
                ("params", request.params.is_some_and(|params| params != wire::SearchParams::default())),
                ("passages_per_document", request.passages_per_document > 1),
            ];
            match of_vectors.into_iter().find(|(_, is_set)| *is_set) {
                None => Ok(Mode::Lexical),
                Some((field, _)) => {
                    Err(Failure::invalid(field, "applies to vectors, which SEARCH_MODE_LEXICAL does not search"))
                }
            }
        }
        SearchMode::Unspecified | SearchMode::Vector => Ok(Mode::Vector),
    }
}

fn parse_fusion(fusion: wire::Fusion, weight: Option<f32>) -> Result<Fusion, Failure> {
    let weight = |default| match weight.unwrap_or(default) {
        weight if (0.0..=MOST_WEIGHT).contains(&weight) => Ok(weight),
        weight => Err(Failure::invalid("lexical_weight", format!("{weight} is not between 0 and {MOST_WEIGHT}"))),
    };
    Ok(match fusion {
        wire::Fusion::ReciprocalRanks => Fusion::ReciprocalRanks { weight: weight(RANKS_WEIGHT)? },
        wire::Fusion::Unspecified | wire::Fusion::WeightedScores => {
            Fusion::WeightedScores { weight: weight(SCORES_WEIGHT)? }
        }
    })
}

/// The words that query `n` is searched by, if the mode searches words.
pub fn words(n: usize, query: &wire::Query, mode: Mode, limits: &Limits) -> Result<String, Failure> {
    let (given, field) = (&query.lexical_text, || format!("queries[{n}].lexical_text"));
    match (mode, &query.query) {
        (Mode::Vector, _) if !given.is_empty() => {
            Err(Failure::invalid(field(), "applies to SEARCH_MODE_HYBRID: set that mode, or leave it out"))
        }
        (Mode::Lexical, _) if !given.is_empty() => {
            Err(Failure::invalid(field(), "applies to SEARCH_MODE_HYBRID: with SEARCH_MODE_LEXICAL, set text"))
        }
        (Mode::Lexical, Some(query::Query::Vector(_) | query::Query::Id(_))) => {
            let reason = "has a vector, which SEARCH_MODE_LEXICAL does not search: set text, or SEARCH_MODE_HYBRID";
            Err(Failure::invalid(format!("queries[{n}]"), reason))
        }
        (Mode::Hybrid(_), Some(query::Query::Vector(_) | query::Query::Id(_))) if given.is_empty() => Err(
            Failure::invalid(field(), "is empty: a vector or an id has no words, and SEARCH_MODE_HYBRID needs some"),
        ),
        (Mode::Hybrid(_), _) if !given.is_empty() => {
            parse::text(&field(), given, limits)?;
            Ok(given.clone())
        }
        (Mode::Lexical | Mode::Hybrid(_), Some(query::Query::Text(text))) => Ok(text.clone()),
        _ => Ok(String::new()),
    }
}

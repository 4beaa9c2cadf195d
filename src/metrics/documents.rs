//! Collections, searches and the disk.
//!
//! Invariant: however many collections there are, at most as many have series of their own as the settings allow: those
//! with the most documents. The others are one series, [`OTHERS`].

use std::cmp::Reverse;
use std::fmt;

use super::families::{Families, Family, Labels};
use crate::collection::{Collection, MigrationState, Searches, Store};
use crate::rpc::Engine;

/// The label of all collections without series of their own. No collection has this name.
const OTHERS: &str = "(others)";

/// The figures of a collection, or of several.
#[derive(Default)]
struct Figures {
    documents: u64,
    passages: u64,
    bytes: u64,
    unindexed: u64,
    segments: u64,
    index_file_bytes: u64,
    /// The least recall that was measured.
    recall: Option<f32>,
    /// The highest `ef` of searches that set none.
    ef: u64,
}

/// Reads one of the figures.
type ReadFigure = fn(&Figures) -> u64;

impl Figures {
    fn of(collection: &Collection) -> Self {
        let quality = collection.quality();
        Self {
            documents: collection.len() as u64,
            passages: collection.n_passages() as u64,
            bytes: collection.bytes() as u64,
            unindexed: collection.unindexed() as u64,
            segments: collection.segments() as u64,
            index_file_bytes: collection.index_file_bytes() as u64,
            recall: quality.recall,
            ef: quality.ef_search as u64,
        }
    }

    fn and(self, other: &Self) -> Self {
        Self {
            documents: self.documents + other.documents,
            passages: self.passages + other.passages,
            bytes: self.bytes + other.bytes,
            unindexed: self.unindexed + other.unindexed,
            segments: self.segments + other.segments,
            index_file_bytes: self.index_file_bytes + other.index_file_bytes,
            recall: [self.recall, other.recall].into_iter().flatten().min_by(f32::total_cmp),
            ef: self.ef.max(other.ef),
        }
    }
}

/// Writes the families of documents, if they are in this process. `most_series`: the collections that may have series
/// of their own.
pub fn write(families: &mut Families<'_>, engine: &Engine, most_series: usize) -> fmt::Result {
    let Some(store) = engine.store.unguarded().local() else { return Ok(()) };
    let mut collections: Vec<(String, Figures)> =
        store.list().iter().map(|one| (one.name().to_owned(), Figures::of(one))).collect();
    families.gauge(Family::of("cognate_collections", "Collections."), collections.len() as u64)?;
    let used = store.used();
    families.gauge(
        Family::bytes(
            "cognate_stored",
            "Memory of documents, vectors and graphs; texts are in it only if they are stored in memory alone.",
        ),
        used.bytes as u64,
    )?;
    let limit = engine.limits.stored.bytes;
    families.gauge(
        Family::bytes("cognate_stored_limit", "Memory of documents, vectors and graphs at most (max_stored_bytes)."),
        (limit < usize::MAX).then_some(limit as u64),
    )?;

    collections.sort_by_key(|(_, figures)| Reverse(figures.documents));
    let others = collections.split_off(most_series.min(collections.len()));
    if !others.is_empty() {
        let sum = others.iter().fold(Figures::default(), |sum, (_, figures)| sum.and(figures));
        collections.push((OTHERS.to_owned(), sum));
    }
    of_collections(families, &collections)?;
    migrations(families, store)?;
    searches(families, store.searches())?;
    disk(families, store)
}

/// The phases of migrations: their documents are copied, the follower is brought to what changes, and the same after a
/// switch.
const PHASES: [&str; 3] = ["copying", "following", "switched"];

fn phase(state: &MigrationState) -> &'static str {
    match state {
        MigrationState { switched: true, .. } => PHASES[2],
        MigrationState { first_pass_over: true, .. } => PHASES[1],
        _ => PHASES[0],
    }
}

/// Documents that the follower of a migration lacks.
fn lacking(state: &MigrationState) -> u64 {
    let first = if state.first_pass_over { 0 } else { state.documents.saturating_sub(state.copied) };
    (first + state.pending) as u64
}

fn migrations(families: &mut Families<'_>, store: &Store) -> fmt::Result {
    let states: Vec<MigrationState> = store.migrations().iter().map(|migration| migration.state()).collect();
    let in_phase = |of: &str| states.iter().filter(|state| phase(state) == of).count() as u64;
    families.gauges(
        Family::of("cognate_migrations", "Migrations of collections to another model, by phase."),
        PHASES.map(|phase| (vec![("phase", phase.into())], in_phase(phase))),
    )?;
    let copied: u64 = states.iter().map(|state| state.copied as u64).sum();
    families
        .gauge(Family::of("cognate_migration_copied", "Documents that both models of a migration have."), copied)?;
    let all_lacking: u64 = states.iter().map(lacking).sum();
    families.gauge(
        Family::of("cognate_migration_lacking", "Documents that one model of a migration lacks, or has as they were."),
        all_lacking,
    )?;
    let failed: u64 = states.iter().map(|state| state.refused as u64).sum();
    families.gauge(
        Family::of("cognate_migration_failed", "Those that hold up a switch until they change (errors of Migration)."),
        failed,
    )
}

fn of_collections(families: &mut Families<'_>, collections: &[(String, Figures)]) -> fmt::Result {
    let labels = |name: &str| -> Labels { vec![("collection", name.to_owned().into())] };
    let gauges: [(Family, ReadFigure); 7] = [
        (Family::of("cognate_documents", "Documents."), |figures| figures.documents),
        (Family::of("cognate_passages", "Passages of documents: one each, and more for long ones."), |figures| {
            figures.passages
        }),
        (Family::bytes("cognate_collection", "Memory of a collection, as it is counted."), |figures| figures.bytes),
        (
            Family::of("cognate_unindexed_passages", "Passages that the graph lacks: each search compares with all."),
            |figures| figures.unindexed,
        ),
        (Family::of("cognate_index_segments", "Segments of the vector index."), |figures| figures.segments),
        (Family::bytes("cognate_index_files", "Bytes of mapped index files."), |figures| figures.index_file_bytes),
        (Family::of("cognate_search_default_ef", "The ef of searches that set none."), |figures| figures.ef),
    ];
    for (family, value) in gauges {
        families.gauges(family, collections.iter().map(|(name, figures)| (labels(name), value(figures))))?;
    }
    families.gauges(
        Family::of("cognate_search_recall", "Share of the 10 nearest that searches found, measured; 0 to 1."),
        collections.iter().filter_map(|(name, figures)| Some((labels(name), f64::from(figures.recall?)))),
    )
}

fn searches(families: &mut Families<'_>, searches: Searches) -> fmt::Result {
    families.counters(
        Family::of("cognate_queries", "Queries of searches, by mode."),
        searches.by_mode.map(|(mode, n)| (vec![("mode", mode.into())], n)),
    )?;
    let of_indexes = searches.of_indexes;
    families.counters(
        Family::of("cognate_index_searches", "Searches of vector indexes; a query may need several."),
        of_indexes.by_way.map(|(way, n)| (vec![("way", way.into())], n)),
    )?;
    for (name, help, distribution) in [
        ("cognate_index_search_ef", "The ef of a walk through graphs.", of_indexes.ef),
        ("cognate_index_search_candidates", "Candidates of a search, found by codes.", of_indexes.candidates),
        ("cognate_index_search_rescored", "Vectors of a search, compared by f32 rows.", of_indexes.rescored),
    ] {
        families.histograms(Family::of(name, help), [(Labels::new(), distribution)])?;
    }
    Ok(())
}

fn disk(families: &mut Families<'_>, store: &Store) -> fmt::Result {
    let Some(disk) = store.disk_stats() else { return Ok(()) };
    let is_stopped = u64::from(disk.stopped.is_some());
    families.gauge(Family::of("cognate_writes_stopped", "1 after the disk failed, until a restart."), is_stopped)?;
    families
        .gauge(Family::bytes("cognate_disk_free", "Free space of the file system of data_dir."), disk.free_bytes)?;
    families.gauge(Family::bytes("cognate_disk_file", "Size of the file of documents."), disk.file_bytes)?;
    let texts = store.text_cache().unwrap_or_default();
    families.counter(Family::of("cognate_text_cache_hits", "Texts that the cache of texts had."), texts.hits)?;
    families.counter(Family::of("cognate_text_cache_misses", "Texts that were read from the disk."), texts.misses)?;
    families.gauge(Family::bytes("cognate_text_cache", "Memory of the cache of texts."), texts.bytes as u64)?;
    families.gauge(
        Family::bytes("cognate_disk_reserve", "Free space that uploads leave (min_free_bytes)."),
        disk.min_free_bytes,
    )?;
    families.counter(Family::of("cognate_commits", "Batches of documents that were committed."), disk.batches)?;
    families
        .counter(Family::of("cognate_disk_compactions", "Compactions of the file of documents."), disk.compactions)?;
    families.histograms(
        Family::seconds("cognate_disk_sync", "Time of a transaction's two fsyncs; batches that wait share them."),
        [(Labels::new(), disk.commit_times)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::ClientVectors;

    #[test]
    fn a_migration_has_a_phase_and_lacks_what_is_to_be_copied_and_what_changed() {
        let copying = MigrationState {
            documents: 10,
            copied: 4,
            first_pass_over: false,
            pending: 2,
            refused: 1,
            switched: false,
            given: 0,
            client_vectors: ClientVectors::Refuse,
        };
        assert_eq!((phase(&copying), lacking(&copying)), ("copying", 8));
        let following = MigrationState { first_pass_over: true, ..copying };
        assert_eq!((phase(&following), lacking(&following)), ("following", 2));
        assert_eq!(phase(&MigrationState { switched: true, ..following }), "switched");
    }
}

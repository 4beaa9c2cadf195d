//! `cognate bench top-k`: measures recall and speed of searches by `ef`, without a server and without a model.
//!
//! It measures the index of a server, with the options of a server. Filters, texts and metadata are left out.

use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use super::search::{self, How, Measure, Row};
use super::vectors::Vectors;
use crate::cli::progress;
use crate::cli::serve::force_cpu;
use crate::cli::table::{self, Align, Table};
use crate::config::{Config, IndexFlags};
use crate::index::MAX_DIMENSIONS;
use crate::machine::cpu;
use crate::machine::process::Usage;

/// The recall that `smallest_ef` must reach. The default `ef` reaches it with 100,000 vectors of MiniLM.
const WANTED: f64 = 0.98;

/// Measures searches: recall and queries per second by ef, beside the exact scan
#[derive(Debug, clap::Args)]
#[command(
    // Without a collection, generated vectors would be measured, and the user would notice minutes later.
    mut_arg("data_dir", |arg| arg.requires("collection")),
    after_help = "Queries are held out: they are vectors of the same kind that are not in the index.

Examples:
  cognate bench top-k
  cognate bench top-k --collection words --data-dir DIR
  cognate bench top-k --vectors vectors.npy --k 100 --ef 100,200,400"
)]
pub struct Args {
    /// Search the vectors of this collection, in a data directory that no server uses; queries are a random part of
    /// them
    #[arg(long, short, value_name = "NAME", conflicts_with = "vectors")]
    collection: Option<String>,
    /// Search the vectors of this file, made by `cognate embed --output FILE.npy`; its last rows are the queries
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Number of generated vectors to search, if there is neither a collection nor a file
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = whole(1..=100_000_000))]
    #[arg(conflicts_with_all = ["collection", "vectors"])]
    documents: usize,
    /// Dimensions of a generated vector
    #[arg(long, value_name = "N", default_value_t = 384, value_parser = whole(2..=MAX_DIMENSIONS))]
    #[arg(conflicts_with_all = ["collection", "vectors"])]
    dimensions: usize,
    /// Seed of the generated vectors, or of the choice of queries
    #[arg(long, value_name = "N", default_value_t = 42, conflicts_with = "vectors")]
    seed: u64,
    /// Number of queries [default: 1000, or a tenth of the vectors if that is less]
    #[arg(long, value_name = "N", value_parser = whole(1..=1_000_000))]
    queries: Option<usize>,
    /// Number of hits for each query
    #[arg(long, short, value_name = "N", default_value_t = 10, value_parser = whole(search::EF))]
    k: usize,
    /// Numbers of candidates that a walk keeps; each is measured [default: 16 to 512, doubling; more for a larger k]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = whole(search::EF))]
    ef: Vec<usize>,
    /// Number of threads that search at the same time; queries per second count all of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(1..=1_024))]
    threads: usize,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: IndexFlags,
}

/// Returns a parser for a number in a range.
fn whole(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

/// The source of the vectors.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "source")]
enum Source {
    Generated { seed: u64 },
    File { path: PathBuf },
    Collection { name: String, seed: u64 },
}

/// The results.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    cpu: &'static str,
    #[serde(flatten)]
    source: Source,
    /// The number of vectors in the index.
    documents: usize,
    dimensions: usize,
    queries: usize,
    k: usize,
    threads: usize,
    ef_construction: usize,
    build_seconds: f64,
    /// The processor time of all threads while it was built; `None`: the system does not tell it.
    build_cpu_seconds: Option<f64>,
    /// True if graph searches are guided by sketches.
    sketches: bool,
    bytes_per_vector: f64,
    /// The bytes that the index needs in addition to the vector in f32.
    bytes_per_vector_beside_f32: f64,
    /// The number of times that each row was measured.
    rounds: usize,
    recall_wanted: f64,
    /// The smallest measured `ef` that reaches this recall, if one does.
    smallest_ef: Option<usize>,
    /// The `ef` of a request that names none.
    default_ef: usize,
    /// One row for each `ef`, and the exact scan as the last.
    rows: Vec<Row>,
}

/// Runs the command. Blocks.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.flags.0)?;
    let efs = args.efs()?;
    force_cpu(&config)?;
    let bar = progress::spinner("{spinner} {msg}  {elapsed}");
    let (source, vectors) = args.vectors(&config, &bar)?;
    let Vectors { stored, queries } = &vectors;
    let (documents, dimensions) = (stored.len(), vectors.dimensions());
    ensure!(args.k <= documents, "--k is {}, and must be at most {documents}, the number of vectors", args.k);

    let options = &config.store.index;
    bar.set_message(format!("building an index of {} vectors", table::count(documents as u64)));
    let begun = Usage::now().cpu;
    let (index, built) = search::build(stored, dimensions, options);
    let built_cpu = Usage::now().cpu.zip(begun).map(|(ended, begun)| ended.saturating_sub(begun));
    let bytes = index.bytes();
    let measure =
        Measure { index: &index, queries, k: args.k, threads: args.threads, cores: options.threads, bar: &bar };
    let rows = measure.all(&efs);
    bar.finish_and_clear();

    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        cpu: cpu::level().name(),
        source,
        documents,
        dimensions,
        queries: queries.len(),
        k: args.k,
        threads: args.threads,
        ef_construction: options.ef_construction,
        build_seconds: built.as_secs_f64(),
        build_cpu_seconds: built_cpu.map(|cpu| cpu.as_secs_f64()),
        sketches: options.sketches,
        bytes_per_vector: bytes as f64 / documents as f64,
        bytes_per_vector_beside_f32: bytes as f64 / documents as f64 - (dimensions * size_of::<f32>()) as f64,
        rounds: search::ROUNDS,
        recall_wanted: WANTED,
        smallest_ef: search::smallest_ef(&rows, WANTED),
        default_ef: index.quality().ef_search,
        rows,
    };
    super::report::print(&report, args.json, |report, out| report.write(out))?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Returns the `ef`s to measure in ascending order.
    fn efs(&self) -> anyhow::Result<Vec<usize>> {
        let mut efs = if self.ef.is_empty() { search::usual_efs(self.k) } else { self.ef.clone() };
        efs.sort_unstable();
        efs.dedup();
        let too_few = efs.iter().find(|&&ef| ef < self.k);
        if let Some(ef) = too_few {
            anyhow::bail!("--ef has {ef}, and must be at least --k, {}", self.k);
        }
        Ok(efs)
    }

    fn vectors(&self, config: &Config, bar: &ProgressBar) -> anyhow::Result<(Source, Vectors)> {
        let seed = self.seed;
        if let Some(path) = &self.vectors {
            bar.set_message(format!("reading {}", path.display()));
            Ok((Source::File { path: path.clone() }, Vectors::of_file(path, self.queries)?))
        } else if let Some(name) = &self.collection {
            let directory = config.store.directory.as_ref();
            let directory = directory.context("--collection needs a data directory, and in_memory is true")?;
            bar.set_message(format!("reading {}", directory.display()));
            let vectors = Vectors::of_collection(directory, name, self.queries, seed)?;
            Ok((Source::Collection { name: name.clone(), seed }, vectors))
        } else {
            bar.set_message("generating vectors");
            let vectors = Vectors::drawn(self.documents, self.dimensions, self.queries, seed);
            Ok((Source::Generated { seed }, vectors))
        }
    }
}

impl Report {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let count = |n: usize| table::count(n as u64);
        let source = match &self.source {
            Source::Generated { .. } => "generated".to_owned(),
            Source::File { path } => path.display().to_string(),
            Source::Collection { name, .. } => format!("collection {}", table::clean(name)),
        };
        let threads = if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        writeln!(out, "cognate {}  {source}  ({}, {threads})", self.version, self.cpu)?;
        writeln!(
            out,
            "{} vectors of {} dimensions, {} bytes each, {} beside the row in f32",
            count(self.documents),
            self.dimensions,
            count(self.bytes_per_vector.round() as usize),
            count(self.bytes_per_vector_beside_f32.round() as usize)
        )?;
        writeln!(out, "built in {:.1} s with ef_construction {}", self.build_seconds, self.ef_construction)?;
        writeln!(out, "{} held-out queries, best of {} rounds\n", count(self.queries), self.rounds)?;
        self.table().write(out, table::stdout_width())?;
        if self.rows.iter().all(|row| row.search != How::Graph) {
            return writeln!(
                out,
                "\nevery search compared all vectors, because there are few, and found the true neighbours"
            );
        }
        let (wanted, default) = (self.recall_wanted, self.default_ef);
        let smallest = match self.smallest_ef {
            Some(ef) => format!("ef {ef} is the smallest with a recall of at least {wanted}"),
            None => format!("no ef has a recall of at least {wanted}"),
        };
        writeln!(out, "\n{smallest} (the default: {default})")
    }

    fn table(&self) -> Table {
        let recall = format!("recall@{}", self.k);
        let mut shown = Table::new([
            ("search", Align::Left),
            ("ef", Align::Right),
            (recall.as_str(), Align::Right),
            ("queries/s", Align::Right),
            ("p50 µs", Align::Right),
            ("p99 µs", Align::Right),
        ]);
        for row in &self.rows {
            let search = match row.search {
                How::Graph => "graph",
                How::Scan => "scan",
                How::Exact => "exact",
            };
            shown.row([
                search.to_owned(),
                row.ef.map_or("-".to_owned(), |ef| ef.to_string()),
                format!("{:.4}", row.recall),
                rate(row.queries_per_second),
                rate(row.p50_us),
                rate(row.p99_us),
            ]);
        }
        shown
    }
}

/// Formats a rate, with one decimal if it is small.
fn rate(rate: f64) -> String {
    if rate < 99.95 { format!("{rate:.1}") } else { table::count(rate.round() as u64) }
}

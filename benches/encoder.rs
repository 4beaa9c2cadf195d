//! Measures the encoder: texts and tokens per second of short and long texts in each precision, and the latency of a
//! single short text on one and on several threads. Rates are compared with the machine's peak, which is measured
//! first, and with candle's own `BertModel`. Then the time of a text of up to 8,192 tokens.
//!
//! Run `cargo bench --bench encoder`. The models have the shapes of all-MiniLM-L6-v2 and, for long texts, of
//! ModernBERT-base, with random weights, and the token ids are made up. Every thread works alone on batches of 32
//! texts, sorted by length, which is the best case for padding; on a long text all threads work together.
//! The best of several rounds counts, because other processes can only slow a round down. `COGNATE_CPU` names a lower
//! instruction level.

#[allow(dead_code, unused_imports, reason = "other benches use the rest")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::bert::{BertModel, Config};
use candle_transformers::models::modernbert;
use cognate::embedder::transformer::cpu::Cpu;
use cognate::embedder::transformer::{CPU_BLOCK_TOKENS, Sequence, Transformer};
use cognate::kernel::gemm::linear::NumberFormat;
use cognate::kernel::peak;
use cognate::machine::cpu;
use cognate::machine::leader::Leader;
use cognate::model::{Activation, Architecture, Biases, Design, Family, Layer, Mode, NormPlace, Positions, Rope, Span};
use workload::Random;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Without `--bench`, `cargo test` is the caller: one short round shows that the bench runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { 5 } else { 1 };
    let config = Config {
        vocab_size: 1000,
        hidden_size: 384,
        num_hidden_layers: 6,
        num_attention_heads: 12,
        intermediate_size: 1536,
        ..Config::default()
    };
    let variables = VarMap::new();
    let weights = || VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    // The loader of candle draws the weights that it does not find. Our encoder then reads the same weights.
    let candle = BertModel::load(weights(), &config)?;
    if let Ok(name) = std::env::var("COGNATE_CPU") {
        cpu::force(cpu::Level::from_name(&name).ok_or("COGNATE_CPU is not the name of an instruction level")?)?;
    }
    let cores = thread::available_parallelism()?.get();
    println!("{}, {cores} cores", cpu::level());
    println!(
        "{:9} {:6} {:>7} {:>9} {:>10} {:>8} {:>8} {:>8}",
        "precision", "texts", "threads", "texts/s", "tokens/s", "Gop/s", "of peak", "× candle"
    );
    for (name, mean, texts) in [("short", 16, 512), ("long", 120, 64)] {
        let mut texts = workload(mean, texts, config.vocab_size);
        texts.sort_by_key(Vec::len);
        let tokens: usize = texts.iter().map(Vec::len).sum();
        let flop: f64 = texts.iter().map(|ids| architecture(&config).operations(ids.len())).sum();
        let beside = best(rounds.min(2), || candle_embed(&candle, &texts).expect("candle embeds"));
        for (precision, form) in forms() {
            let backend = backend(form, Leader::default());
            let bert = Transformer::load(weights(), &architecture(&config), &backend, CPU_BLOCK_TOKENS)?;
            let measured = if form == NumberFormat::Int8 { peak::byte_ops } else { peak::flops };
            for threads in if cores > 1 { vec![1, cores] } else { vec![1] } {
                let (mut peak, mut seconds) = (0.0f64, f64::INFINITY);
                // They take turns, so that other processes disturb both equally.
                for _ in 0..rounds {
                    let time = Duration::from_millis(100);
                    peak = peak.max(on_each(threads, || measured(cpu::level(), time)).into_iter().sum());
                    seconds = seconds.min(best(1, || {
                        on_each(threads, || embed(&bert, form, &texts));
                    }));
                }
                let times = threads as f64 / seconds;
                println!(
                    "{precision:9} {name:6} {threads:7} {:9.1} {:10.0} {:8.1} {:7.1}% {:8.2}",
                    texts.len() as f64 * times,
                    tokens as f64 * times,
                    flop * times / 1e9,
                    100.0 * flop * times / peak,
                    beside * times,
                );
            }
        }
    }
    for (precision, form) in forms() {
        let bert =
            Transformer::load(weights(), &architecture(&config), &backend(form, Leader::default()), CPU_BLOCK_TOKENS)?;
        for threads in if cores > 1 { vec![1, cores] } else { vec![1] } {
            let milliseconds = 1e3 * single(&bert, form, threads, 16, 100 * rounds);
            println!("{precision:9} one text of 16 tokens on {threads} threads: p50 {milliseconds:.2} ms");
        }
    }
    // As a test it is one short text through three layers.
    let (layers, lengths) = if rounds > 1 { (22, &[512, 2048, 8192][..]) } else { (3, &[64][..]) };
    long_texts(layers, lengths, cores)
}

/// Prints the time of a text of each length through a model of ModernBERT-base's shape.
fn long_texts(layers: usize, lengths: &[usize], threads: usize) -> Result<(), Box<dyn std::error::Error>> {
    let config = modernbert::Config {
        vocab_size: 1000,
        hidden_size: 768,
        num_hidden_layers: layers,
        num_attention_heads: 12,
        intermediate_size: 1152,
        max_position_embeddings: 8192,
        layer_norm_eps: 1e-5,
        pad_token_id: 0,
        global_attn_every_n_layers: 3,
        global_rope_theta: 160_000.0,
        local_attention: 128,
        local_rope_theta: 10_000.0,
        classifier_config: None,
    };
    let variables = VarMap::new();
    let weights = || VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    modernbert::ModernBert::load(weights(), &config)?;
    let architecture = modern_bert(&config);
    for (precision, form) in forms() {
        let model = Transformer::load(weights(), &architecture, &backend(form, Leader::default()), CPU_BLOCK_TOKENS)?;
        for &tokens in lengths {
            let seconds = single(&model, form, threads, tokens, 1 + 8192 / tokens / 2);
            let rate = architecture.operations(tokens) / seconds / 1e9;
            let speed = tokens as f64 / seconds;
            println!(
                "{precision:9} one text of {tokens} tokens, {layers} layers, on {threads} threads: \
                      p50 {:.0} ms, {speed:.0} tokens/s, {rate:.1} Gop/s",
                1e3 * seconds
            );
        }
    }
    Ok(())
}

/// Returns ModernBERT's sizes and parts for our encoder.
fn modern_bert(config: &modernbert::Config) -> Architecture {
    let head_dim = config.hidden_size / config.num_attention_heads;
    let layer = |i: usize| {
        let is_global = i.is_multiple_of(config.global_attn_every_n_layers);
        let theta = if is_global { config.global_rope_theta } else { config.local_rope_theta };
        Layer {
            span: if is_global { Span::ALL } else { Span::window(config.local_attention / 2) },
            rope: Some(Rope { theta, factor: 1.0 }),
            normalises_attention: i > 0,
        }
    };
    Architecture {
        family: Family::ModernBert,
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_attention_heads,
        head_dim,
        query_pre_attn_scalar: head_dim as f64,
        intermediate_size: config.intermediate_size,
        hidden_act: Activation::Gelu,
        max_position_embeddings: config.max_position_embeddings,
        padding: None,
        type_vocab_size: 0,
        layer_norm_eps: config.layer_norm_eps,
        design: Design {
            positions: Positions::Rotary,
            norm_place: NormPlace::Before,
            gated: true,
            biases: Biases { qkv: false, output: false, up: false, down: false, norm: false },
            ..Design::BERT
        },
        layers: (0..config.num_hidden_layers).map(layer).collect(),
    }
}

/// Returns the precisions with the forms of their activations.
fn forms() -> [(&'static str, NumberFormat); 2] {
    [("f32", NumberFormat::of_f32(cpu::level())), ("int8", NumberFormat::Int8)]
}

fn backend(form: NumberFormat, leader: Leader) -> Cpu {
    Cpu::new(cpu::level(), form, leader)
}

/// Returns the median of the seconds that one text of `tokens` tokens takes on `threads` threads.
fn single(bert: &Transformer<Cpu>, form: NumberFormat, threads: usize, tokens: usize, times: usize) -> f64 {
    let (leader, over) = (Leader::default(), AtomicBool::new(false));
    let team = Arc::clone(leader.team());
    let mut scratch = bert.scratch(backend(form, leader));
    let ids: Vec<u32> = (0..tokens).map(|i| (i * 61 % 1000) as u32).collect();
    thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(|| team.help(|| over.load(Ordering::Relaxed)))));
        let mut seconds: Vec<f64> = (0..times)
            .map(|_| {
                best(1, || {
                    let vectors = bert.pooled(&[ids.as_slice().into()], &[Mode::Mean], &mut scratch);
                    std::hint::black_box(vectors.expect("ids are below the vocabulary's end"));
                })
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        seconds.sort_by(f64::total_cmp);
        seconds[times / 2]
    })
}

/// Returns the same sizes for our encoder.
fn architecture(config: &Config) -> Architecture {
    Architecture {
        family: Family::Bert,
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_attention_heads,
        head_dim: config.hidden_size / config.num_attention_heads,
        query_pre_attn_scalar: (config.hidden_size / config.num_attention_heads) as f64,
        intermediate_size: config.intermediate_size,
        hidden_act: Activation::Gelu,
        max_position_embeddings: config.max_position_embeddings,
        padding: None,
        type_vocab_size: config.type_vocab_size,
        layer_norm_eps: config.layer_norm_eps,
        design: Design::BERT,
        layers: vec![Layer::BERT; config.num_hidden_layers],
    }
}

/// Returns `count` texts of `mean` tokens, plus or minus two thirds.
fn workload(mean: usize, count: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let mut random = Random::new(1);
    let lengths: Vec<_> = (0..count).map(|_| mean / 3 + random.below(4 * mean / 3 + 1)).collect();
    lengths.into_iter().map(|n| (0..n).map(|_| random.below(vocabulary) as u32).collect()).collect()
}

fn embed(bert: &Transformer<Cpu>, form: NumberFormat, texts: &[Vec<u32>]) {
    let mut scratch = bert.scratch(backend(form, Leader::default()));
    for batch in texts.chunks(BATCH) {
        let ids: Vec<Sequence<'_>> = batch.iter().map(|ids| ids.as_slice().into()).collect();
        let vectors = bert.pooled(&ids, &[Mode::Mean], &mut scratch).expect("ids are below the vocabulary's end");
        std::hint::black_box(vectors);
    }
}

fn candle_embed(model: &BertModel, texts: &[Vec<u32>]) -> candle_core::Result<()> {
    for batch in texts.chunks(BATCH) {
        let longest = batch.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |of: fn(u32) -> u32| -> candle_core::Result<Tensor> {
            let rows = batch.iter().flat_map(|ids| (0..longest).map(|i| ids.get(i).map_or(0, |&id| of(id))));
            Tensor::from_vec(rows.collect(), (batch.len(), longest), &Device::Cpu)
        };
        let (ids, mask) = (padded(|id| id)?, padded(|_| 1)?);
        let hidden = model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let kept = hidden.broadcast_mul(&mask.to_dtype(DType::F32)?.unsqueeze(2)?)?;
        std::hint::black_box(kept.sum(1)?.to_vec2::<f32>()?);
    }
    Ok(())
}

/// Returns the shortest time of `f` in seconds.
fn best(rounds: usize, mut f: impl FnMut()) -> f64 {
    let once = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..rounds).map(once).fold(f64::INFINITY, f64::min)
}

/// Runs `f` on `threads` threads at once, and returns the results.
fn on_each<T: Send>(threads: usize, f: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&f)).collect();
        running.into_iter().map(|thread| thread.join().expect("the thread does not panic")).collect()
    })
}

//! The encoder compared with candle-transformers' `BertModel`, and the invariant of equal bits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};
use proptest::prelude::*;

mod accelerator;
mod family;
mod golden;
mod packed;
mod parts;

use super::accelerator::Accelerator;
use super::cpu::Cpu;
use super::*;
use crate::kernel::embedding::Embedding;
use crate::kernel::gemm::linear::NumberFormat;
use crate::kernel::matrix::filled;
use crate::machine::cpu::{self, Level};
use crate::machine::leader::Leader;
use crate::model::{self, Activation::*, Architecture, Design, Family};

fn config(
    hidden_size: usize,
    heads: usize,
    intermediate_size: usize,
    layers: usize,
    hidden_act: model::Activation,
) -> Architecture {
    Architecture {
        family: Family::Bert,
        vocab_size: 97,
        hidden_size,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_dim: hidden_size / heads,
        query_pre_attn_scalar: (hidden_size / heads) as f64,
        intermediate_size,
        hidden_act,
        max_position_embeddings: 64,
        padding: None,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        design: Design::BERT,
        layers: vec![model::Layer::BERT; layers],
    }
}

/// The configuration in the form of candle-transformers.
fn candle(config: &Architecture) -> Config {
    Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_hidden_layers: config.layers.len(),
        num_attention_heads: config.num_attention_heads,
        intermediate_size: config.intermediate_size,
        hidden_act: match config.hidden_act {
            Gelu => HiddenAct::Gelu,
            GeluTanh => HiddenAct::GeluApproximate,
            Relu => HiddenAct::Relu,
            Silu => unreachable!("candle's BERT has no SiLU"),
        },
        max_position_embeddings: config.max_position_embeddings,
        type_vocab_size: config.type_vocab_size,
        layer_norm_eps: config.layer_norm_eps,
        ..Config::default()
    }
}

/// Makes weights of a realistic size from a seed.
fn weights(config: &Architecture, seed: u64) -> HashMap<String, Tensor> {
    let (n, inner) = (config.hidden_size, config.intermediate_size);
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".into(), config.vocab_size, n),
        ("embeddings.position_embeddings.weight".into(), config.max_position_embeddings, n),
        ("embeddings.token_type_embeddings.weight".into(), config.type_vocab_size, n),
        ("embeddings.LayerNorm.weight".into(), 0, n),
        ("embeddings.LayerNorm.bias".into(), 0, n),
    ];
    for layer in 0..config.layers.len() {
        let at = format!("encoder.layer.{layer}");
        for (name, rows, cols) in [
            ("attention.self.query", n, n),
            ("attention.self.key", n, n),
            ("attention.self.value", n, n),
            ("attention.output.dense", n, n),
            ("intermediate.dense", inner, n),
            ("output.dense", n, inner),
        ] {
            shapes.push((format!("{at}.{name}.weight"), rows, cols));
            shapes.push((format!("{at}.{name}.bias"), 0, rows));
        }
        for name in ["attention.output", "output"] {
            shapes.push((format!("{at}.{name}.LayerNorm.weight"), 0, n));
            shapes.push((format!("{at}.{name}.LayerNorm.bias"), 0, n));
        }
    }
    let tensor = |i: usize, rows: usize, cols: usize| {
        let numbers = filled(1, rows.max(1) * cols, seed ^ (i as u64) << 32).row(0).to_vec();
        if rows == 0 {
            Tensor::from_vec(numbers, cols, &Device::Cpu)
        } else {
            let scale = (3.0 / cols as f32).sqrt();
            Tensor::from_vec(numbers.iter().map(|x| x * scale).collect::<Vec<_>>(), (rows, cols), &Device::Cpu)
        }
    };
    let named = shapes.into_iter().enumerate();
    named.map(|(i, (name, rows, cols))| (name, tensor(i, rows, cols).expect("shape fits"))).collect()
}

fn builder(weights: HashMap<String, Tensor>) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu)
}

fn sequence(tokens: usize, seed: u32) -> Vec<u32> {
    (0..tokens as u32).map(|i| (i * 31 + seed * 17) % 97).collect()
}

fn slices(sequences: &[Vec<u32>]) -> Vec<Sequence<'_>> {
    sequences.iter().map(|ids| ids.as_slice().into()).collect()
}

fn at(level: Level) -> Cpu {
    Cpu::new(level, NumberFormat::of_f32(level), Leader::default())
}

fn load<B: Backend>(weights: HashMap<String, Tensor>, config: &Architecture, backend: &B) -> Transformer<B> {
    Transformer::load(builder(weights), config, backend, CPU_BLOCK_TOKENS).expect("weights are complete")
}

/// The vectors of all tokens after the last layer.
#[derive(Debug, PartialEq)]
struct Hidden {
    /// `[tokens][hidden_size]`, the sequences one after the other.
    values: Vec<Vec<f32>>,
    /// Sequence i has the rows `cu_seqlens[i] .. cu_seqlens[i + 1]`.
    cu_seqlens: Vec<usize>,
}

/// Computes every token's vector with new scratch memory.
fn hidden<B: Backend>(bert: &Transformer<B>, backend: B, sequences: &[Vec<u32>]) -> Hidden {
    hidden_in(&mut bert.scratch(backend), bert, sequences)
}

/// Computes every token's vector.
fn hidden_in<B: Backend>(scratch: &mut Scratch<B>, bert: &Transformer<B>, sequences: &[Vec<u32>]) -> Hidden {
    let sequences = slices(sequences);
    bert.check(&sequences).expect("ids are valid");
    let mut hidden = Hidden { values: Vec::new(), cu_seqlens: vec![0] };
    for block in blocks(&sequences, bert.block_tokens) {
        bert.block(block, Queries::All, scratch).expect("the device computes");
        let before = hidden.values.len();
        hidden.values.extend(scratch.backend.values(&scratch.hidden).expect("the device computes"));
        hidden.cu_seqlens.extend(scratch.sequences.cu_seqlens[1..].iter().map(|start| before + start));
    }
    hidden
}

/// The tolerance of a hidden value; the greatest are about 4. It covers rounding, and on tiles the part of each product
/// that split bf16 omits, 2⁻¹⁶.
fn tolerance(level: Level) -> f32 {
    if NumberFormat::of_f32(level) == NumberFormat::SplitBf16 { 4e-5 } else { 1e-5 }
}

/// Returns the greatest difference from candle-transformers, which computes one sequence at a time.
fn worst_difference<B: Backend>(config: &Architecture, seed: u64, backend: B, sequences: &[Vec<u32>]) -> f32 {
    let weights = weights(config, seed);
    let reference = BertModel::load(builder(weights.clone()), &candle(config)).expect("weights are complete");
    let hidden = hidden(&load(weights, config, &backend), backend, sequences);
    assert_eq!(hidden.cu_seqlens.len(), sequences.len() + 1);
    let mut worst = 0.0f32;
    for (ids, ends) in sequences.iter().zip(hidden.cu_seqlens.windows(2)) {
        let ids = Tensor::new(ids.as_slice(), &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("one row");
        let types = ids.zeros_like().expect("same shape");
        let exact = reference.forward(&ids, &types, None).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
        let exact = exact.expect("the reference computes");
        let got = hidden.values[ends[0]..ends[1]].concat();
        assert_eq!(got.len(), exact.len());
        worst = got.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    worst
}

#[test]
fn every_token_is_that_of_candle_transformers_after_every_layer_at_every_level_and_by_candles_operations() {
    let cases = [
        (config(32, 1, 64, 2, Gelu), 1),
        (config(33, 3, 50, 2, Gelu), 2),
        (config(64, 2, 129, 3, GeluTanh), 3),
        (config(90, 5, 200, 1, Relu), 4),
        (config(96, 3, 384, 2, Gelu), 5),
    ];
    let sequences: Vec<_> = [1, 2, 7, 16, 17, 33, 64, 5].into_iter().map(|n| sequence(n, n as u32)).collect();
    for (config, seed) in cases {
        for layers in 0..=config.layers.len() {
            let config = Architecture { layers: vec![model::Layer::BERT; layers], ..config.clone() };
            for level in Level::supported() {
                let worst = worst_difference(&config, seed, at(level), &sequences);
                assert!(worst <= tolerance(level), "{level}, {layers} layers, seed {seed}: off by {worst:e}");
            }
            let worst = worst_difference(&config, seed, Accelerator::new(Device::Cpu, DType::F32), &sequences);
            assert!(worst <= 1e-5, "candle, {layers} layers, seed {seed}: off by {worst:e}");
        }
    }
}

#[test]
fn the_longest_sequence_and_hundreds_of_single_tokens_are_those_of_candle_transformers() {
    let config = Architecture { max_position_embeddings: 512, ..config(200, 5, 333, 2, Gelu) };
    let singles: Vec<_> = (0..300).map(|i| sequence(1, i)).collect();
    for level in Level::supported() {
        for sequences in [&[sequence(512, 3)][..], &singles] {
            let worst = worst_difference(&config, 6, at(level), sequences);
            assert!(worst <= tolerance(level), "{level}: off by {worst:e}");
        }
    }
}

#[test]
fn the_second_text_of_a_pair_has_the_other_token_type() {
    let config = config(33, 3, 50, 2, Gelu);
    let weights = weights(&config, 8);
    let reference = BertModel::load(builder(weights.clone()), &candle(&config)).expect("weights are complete");
    let ids = sequence(20, 3);
    for first in [0, 1, 7, 20] {
        let row = |values: Vec<u32>| Tensor::new(values, &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("one row");
        let types = row((0..20).map(|n| u32::from(n >= first)).collect());
        let exact = reference.forward(&row(ids.clone()), &types, None).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
        let exact = exact.expect("the reference computes");
        let pair = [Sequence { ids: &ids, first, left_out: 0 }];
        let vector = |level| {
            let bert = load(weights.clone(), &config, &at(level));
            bert.pooled(&pair, &[Mode::Cls], &mut bert.scratch(at(level))).expect("the pair is valid").remove(0)
        };
        let candle = Accelerator::new(Device::Cpu, DType::F32);
        let bert = load(weights.clone(), &config, &candle);
        let by_candle =
            bert.pooled(&pair, &[Mode::Cls], &mut bert.scratch(candle)).expect("the pair is valid").remove(0);
        for vector in Level::supported().map(vector).chain([by_candle]) {
            let worst = vector.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 4e-5, "{first} tokens of the first text: off by {worst:e}");
        }
    }
}

#[test]
fn the_prefix_bert_and_the_names_gamma_and_beta_are_understood() {
    let config = config(32, 2, 64, 1, Gelu);
    let plain = weights(&config, 1);
    let old = plain.iter().map(|(name, tensor)| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        (format!("bert.{name}"), tensor.clone())
    });
    let ids = [sequence(9, 1)];
    let hidden = |weights| hidden(&load(weights, &config, &at(cpu::level())), at(cpu::level()), &ids);
    assert_eq!(hidden(plain.clone()), hidden(old.collect()));
}

#[test]
fn a_weight_of_another_shape_is_refused() {
    let mut config = config(32, 2, 64, 1, Gelu);
    let weights = weights(&config, 1);
    let refused = |weights, config: &Architecture| {
        Transformer::load(builder(weights), config, &at(cpu::level()), CPU_BLOCK_TOKENS).err().map(|e| e.to_string())
    };
    config.intermediate_size = 65;
    let refusal = refused(weights, &config);
    assert!(refusal.is_some_and(|text| text.contains("encoder.layer.0.intermediate.dense.weight")));
}

#[test]
fn bad_sequences_are_errors_that_name_them() {
    let config = config(32, 2, 64, 1, Gelu);
    let bert = load(weights(&config, 1), &config, &at(cpu::level()));
    let error = |ids: &[&[u32]]| {
        let ids: Vec<Sequence<'_>> = ids.iter().map(|&ids| ids.into()).collect();
        bert.pooled(&ids, &[Mode::Mean], &mut bert.scratch(at(cpu::level()))).err().map(|error| error.to_string())
    };
    assert_eq!(error(&[&[1], &[]]).as_deref(), Some("sequence 1 is empty"));
    assert_eq!(error(&[&[1; 65]]).as_deref(), Some("sequence 0 has 65 tokens, the model has 64 positions"));
    assert_eq!(error(&[&[5, 97]]).as_deref(), Some("sequence 0 has token 97, the vocabulary ends at 97"));
    assert_eq!(error(&[]), None);
    assert_eq!(error(&[&[1; 64]]), None);
}

#[test]
fn blocks_hold_whole_sequences_and_every_one_of_them() {
    for lengths in [vec![], vec![1; 300], vec![512, 1, 512], vec![100, 100, 28, 1, 127, 2], vec![128; 3]] {
        let sequences: Vec<_> = lengths.iter().map(|&n| sequence(n, 0)).collect();
        let all = slices(&sequences);
        let blocks: Vec<_> = blocks(&all, 128).collect();
        assert_eq!(blocks.concat(), all);
        for block in blocks {
            let tokens: usize = block.iter().map(|sequence| sequence.ids.len()).sum();
            assert!(block.len() == 1 || tokens <= 128);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_sequence_has_the_same_bits_alone_in_any_batch_and_in_used_memory(
        lengths in prop::collection::vec(1usize..=64, 1..40),
        seed in 0u64..1000,
    ) {
        let config = config(52, 4, 75, 2, Gelu);
        let sequences: Vec<_> = lengths.iter().zip(0..).map(|(&n, i)| sequence(n, i)).collect();
        for level in Level::supported() {
            for form in [NumberFormat::of_f32(level), NumberFormat::Int8] {
                let backend = || Cpu::new(level, form, Leader::default());
                let bert = load(weights(&config, seed), &config, &backend());
                let mut used = bert.scratch(backend());
                for pooling in [&[Mode::Mean], &[Mode::Cls]] as [&[Mode]; 2] {
                    let together = bert.pooled(&slices(&sequences), pooling, &mut used).expect("ids are valid");
                    for (ids, vector) in sequences.iter().zip(&together) {
                        let fresh = &mut bert.scratch(backend());
                        let alone = bert.pooled(&[ids.as_slice().into()], pooling, fresh).expect("ids are valid");
                        prop_assert_eq!(&alone[0], vector, "{} {:?} {:?}", level, form, pooling);
                    }
                }
                let hidden = hidden(&bert, backend(), &sequences);
                let cls = bert.pooled(&slices(&sequences), &[Mode::Cls], &mut used).expect("ids are valid");
                for (&start, vector) in hidden.cu_seqlens.iter().zip(&cls) {
                    prop_assert_eq!(&hidden.values[start], vector, "the shorter last layer");
                }
            }
        }
    }
}

#[test]
fn threads_that_help_change_no_bit() {
    let config = config(96, 3, 384, 2, Gelu);
    let sequences: Vec<_> = [1, 40, 7, 64].into_iter().map(|n| sequence(n, n as u32)).collect();
    for level in Level::supported() {
        for form in [NumberFormat::of_f32(level), NumberFormat::Int8] {
            let (leader, over) = (Leader::default(), AtomicBool::new(false));
            let team = Arc::clone(leader.team());
            let backend = Cpu::new(level, form, leader);
            let bert = load(weights(&config, 3), &config, &backend);
            let alone = hidden(&bert, Cpu::new(level, form, Leader::default()), &sequences);
            let mut scratch = bert.scratch(backend);
            std::thread::scope(|scope| {
                (0..2).for_each(|_| drop(scope.spawn(|| team.help(|| over.load(Relaxed)))));
                for _ in 0..20 {
                    assert_eq!(hidden_in(&mut scratch, &bert, &sequences), alone, "{level} {form:?}");
                }
                over.store(true, Relaxed);
            });
        }
    }
}

#[test]
fn int8_says_nearly_what_f32_says() {
    let config = config(160, 5, 300, 3, Gelu);
    let sequences: Vec<_> = [1, 2, 9, 33, 64].into_iter().map(|n| sequence(n, n as u32)).collect();
    for level in Level::supported() {
        let pooled = |form| {
            let backend = Cpu::new(level, form, Leader::default());
            let bert = load(weights(&config, 4), &config, &backend);
            bert.pooled(&slices(&sequences), &[Mode::Mean], &mut bert.scratch(backend)).expect("ids are valid")
        };
        for (exact, near) in pooled(NumberFormat::of_f32(level)).into_iter().zip(pooled(NumberFormat::Int8)) {
            let unit = |v: Vec<f32>| Embedding::normalized(v).expect("a direction");
            let cosine = unit(exact).cosine(&unit(near));
            assert!(cosine > 0.999 && cosine < 0.999_999_9, "{level}: cosine {cosine}");
        }
    }
}

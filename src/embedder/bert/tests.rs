//! The encoder beside candle-transformers' `BertModel`, and its promise of equal bits.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};
use proptest::prelude::*;

mod family;

use super::*;
use crate::kernel::cpu;
use crate::kernel::matrix::filled;
use crate::model::{Activation::*, Family};

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
        num_hidden_layers: layers,
        num_attention_heads: heads,
        intermediate_size,
        hidden_act,
        max_position_embeddings: 64,
        padding: None,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
    }
}

/// The same as candle-transformers wants it.
fn candle(config: &Architecture) -> Config {
    Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        intermediate_size: config.intermediate_size,
        hidden_act: match config.hidden_act {
            Gelu => HiddenAct::Gelu,
            GeluTanh => HiddenAct::GeluApproximate,
            Relu => HiddenAct::Relu,
        },
        max_position_embeddings: config.max_position_embeddings,
        type_vocab_size: config.type_vocab_size,
        layer_norm_eps: config.layer_norm_eps,
        ..Config::default()
    }
}

/// Weights of the size that training leaves, from a seed.
fn weights(config: &Architecture, seed: u64) -> HashMap<String, Tensor> {
    let (n, inner) = (config.hidden_size, config.intermediate_size);
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".into(), config.vocab_size, n),
        ("embeddings.position_embeddings.weight".into(), config.max_position_embeddings, n),
        ("embeddings.token_type_embeddings.weight".into(), config.type_vocab_size, n),
        ("embeddings.LayerNorm.weight".into(), 0, n),
        ("embeddings.LayerNorm.bias".into(), 0, n),
    ];
    for layer in 0..config.num_hidden_layers {
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

fn slices(sequences: &[Vec<u32>]) -> Vec<&[u32]> {
    sequences.iter().map(Vec::as_slice).collect()
}

/// The greatest difference from candle-transformers, which computes one sequence at a time.
fn worst_difference(config: &Architecture, seed: u64, level: cpu::Level, sequences: &[Vec<u32>]) -> f32 {
    let weights = weights(config, seed);
    let reference = BertModel::load(builder(weights.clone()), &candle(config)).expect("weights are complete");
    let bert = Bert::load(builder(weights), config, level).expect("weights are complete");
    let hidden = bert.forward(&slices(sequences), &mut Scratch::default()).expect("ids are valid");
    assert_eq!(hidden.cu_seqlens.len(), sequences.len() + 1);
    let mut worst = 0.0f32;
    for (ids, ends) in sequences.iter().zip(hidden.cu_seqlens.windows(2)) {
        let ids = Tensor::new(ids.as_slice(), &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("one row");
        let types = ids.zeros_like().expect("same shape");
        let exact = reference.forward(&ids, &types, None).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
        let exact = exact.expect("the reference computes");
        let got = &hidden.values[ends[0] * config.hidden_size..ends[1] * config.hidden_size];
        assert_eq!(got.len(), exact.len());
        worst = got.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    worst
}

#[test]
fn every_token_is_that_of_candle_transformers_at_every_level() {
    let cases = [
        (config(32, 1, 64, 2, Gelu), 1),
        (config(33, 3, 50, 2, Gelu), 2),
        (config(64, 2, 129, 3, GeluTanh), 3),
        (config(90, 5, 200, 1, Relu), 4),
        (config(96, 3, 384, 2, Gelu), 5),
    ];
    let sequences: Vec<_> = [1, 2, 7, 16, 17, 33, 64, 5].into_iter().map(|n| sequence(n, n as u32)).collect();
    for (config, seed) in cases {
        for level in cpu::Level::supported() {
            let worst = worst_difference(&config, seed, level, &sequences);
            assert!(worst <= 1e-5, "{level:?}, seed {seed}: off by {worst:e}");
        }
    }
}

#[test]
fn the_longest_sequence_and_hundreds_of_single_tokens_are_those_of_candle_transformers() {
    let config = Architecture { max_position_embeddings: 512, ..config(200, 5, 333, 2, Gelu) };
    let singles: Vec<_> = (0..300).map(|i| sequence(1, i)).collect();
    for level in cpu::Level::supported() {
        for sequences in [&[sequence(512, 3)][..], &singles] {
            let worst = worst_difference(&config, 6, level, sequences);
            assert!(worst <= 1e-5, "{level:?}: off by {worst:e}");
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
    let load = |weights| Bert::load(builder(weights), &config, cpu::level()).expect("weights are complete");
    let (a, b) = (load(plain.clone()), load(old.collect()));
    let ids = [sequence(9, 1)];
    let hidden = |bert: &Bert| bert.forward(&slices(&ids), &mut Scratch::default()).expect("ids are valid");
    assert_eq!(hidden(&a), hidden(&b));
}

#[test]
fn a_weight_of_another_shape_and_heads_that_do_not_divide_are_refused() {
    let mut config = config(32, 2, 64, 1, Gelu);
    let weights = weights(&config, 1);
    config.num_attention_heads = 3;
    let refused = Bert::load(builder(weights.clone()), &config, cpu::level()).err().map(|e| e.to_string());
    assert_eq!(refused.as_deref(), Some("hidden_size 32 is not a multiple of num_attention_heads 3"));
    config.num_attention_heads = 2;
    config.intermediate_size = 65;
    let refused = Bert::load(builder(weights), &config, cpu::level()).err().map(|e| e.to_string());
    assert!(refused.is_some_and(|text| text.contains("encoder.layer.0.intermediate.dense.weight")));
}

#[test]
fn bad_sequences_are_errors_that_name_them() {
    let config = config(32, 2, 64, 1, Gelu);
    let bert = Bert::load(builder(weights(&config, 1)), &config, cpu::level()).expect("weights are complete");
    let error = |ids: &[&[u32]]| bert.pooled(ids, Pooling::Mean, &mut Scratch::default()).err();
    assert_eq!(error(&[&[1], &[]]), Some(InputError::Empty { sequence: 1 }));
    assert_eq!(error(&[&[1; 65]]), Some(InputError::TooLong { sequence: 0, tokens: 65, positions: 64 }));
    let unknown = InputError::UnknownToken { sequence: 0, token: 97, vocabulary: 97 };
    assert_eq!(error(&[&[5, 97]]), Some(unknown));
    assert_eq!(error(&[]), None);
    assert_eq!(error(&[&[1; 64]]), None);
}

#[test]
fn blocks_hold_whole_sequences_and_every_one_of_them() {
    for lengths in [vec![], vec![1; 300], vec![512, 1, 512], vec![100, 100, 28, 1, 127, 2], vec![BLOCK_TOKENS; 3]] {
        let sequences: Vec<_> = lengths.iter().map(|&n| sequence(n, 0)).collect();
        let all = slices(&sequences);
        let blocks: Vec<_> = blocks(&all).collect();
        assert_eq!(blocks.concat(), all);
        for block in blocks {
            let tokens: usize = block.iter().map(|ids| ids.len()).sum();
            assert!(block.len() == 1 || tokens <= BLOCK_TOKENS);
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
        for level in cpu::Level::supported() {
            let bert = Bert::load(builder(weights(&config, seed)), &config, level).expect("weights are complete");
            let mut used = Scratch::default();
            for pooling in [Pooling::Mean, Pooling::Cls] {
                let together = bert.pooled(&slices(&sequences), pooling, &mut used).expect("ids are valid");
                for (ids, vector) in sequences.iter().zip(&together) {
                    let alone = bert.pooled(&[ids], pooling, &mut Scratch::default()).expect("ids are valid");
                    prop_assert_eq!(&alone[0], vector, "{:?} {:?}", level, pooling);
                }
            }
            let hidden = bert.forward(&slices(&sequences), &mut used).expect("ids are valid");
            let cls = bert.pooled(&slices(&sequences), Pooling::Cls, &mut used).expect("ids are valid");
            for (start, vector) in hidden.cu_seqlens.iter().zip(&cls) {
                prop_assert_eq!(&hidden.values[start * 52..][..52], vector.as_slice(), "the shorter last layer");
            }
        }
    }
}

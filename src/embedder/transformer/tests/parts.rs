//! Any combination of the parts that a description has, compared with their definition in f64: at every level, by
//! candle's operations, in any batch, and for a single token of each sequence.
//!
//! The checkpoints have Gemma's names, which name every part.

use super::family::gelu;
use super::*;
use crate::model::{Biases, Layer, Norm, NormPlace, Positions, RELATIVE_BUCKETS, Rope, Span};

type Rows = Vec<Vec<f64>>;

/// Computes an encoder by the definitions of its parts.
struct Plain<'a> {
    config: &'a Architecture,
    weights: &'a HashMap<String, Tensor>,
}

impl Plain<'_> {
    /// Returns the vectors of all tokens of a text, whose second part begins at `first`.
    fn forward(&self, ids: &[u32], first: usize) -> Rows {
        let Architecture { hidden_size: n, design, .. } = *self.config;
        let words = self.table("embed_tokens.weight");
        let row = |(p, &id): (usize, &u32)| {
            let mut x = words[id as usize].clone();
            if design.scales_embeddings {
                x.iter_mut().for_each(|x| *x *= (n as f64).sqrt());
            }
            if design.positions != Positions::Rotary {
                add(&mut x, &self.table("embeddings.position_embeddings.weight")[p]);
            }
            if self.config.type_vocab_size > 0 {
                add(&mut x, &self.table("embeddings.token_type_embeddings.weight")[usize::from(p >= first)]);
            }
            x
        };
        let mut x: Rows = ids.iter().enumerate().map(row).collect();
        if design.normalises_embeddings {
            x = self.norm("embeddings.LayerNorm", &x);
        }
        for (i, layer) in self.config.layers.iter().enumerate() {
            let at = |name: &str| format!("layers.{i}.{name}");
            let norms = ["input_layernorm", "post_attention_layernorm"];
            x = self.residual(x, norms.map(at), layer.normalises_attention, |x| self.attention(i, *layer, x));
            let norms = ["pre_feedforward_layernorm", "post_feedforward_layernorm"];
            x = self.residual(x, norms.map(at), true, |x| self.feed_forward(i, x));
        }
        if design.norm_place == NormPlace::After { x } else { self.norm("norm", &x) }
    }

    fn residual(&self, x: Rows, [before, after]: [String; 2], has_first: bool, f: impl Fn(&Rows) -> Rows) -> Rows {
        let place = self.config.design.norm_place;
        let input = if place == NormPlace::After || !has_first { x.clone() } else { self.norm(&before, &x) };
        let mut y = f(&input);
        if place == NormPlace::BeforeAndAfter {
            y = self.norm(&after, &y);
        }
        y.iter_mut().zip(&x).for_each(|(y, x)| add(y, x));
        if place == NormPlace::After { self.norm(&after, &y) } else { y }
    }

    fn attention(&self, i: usize, layer: Layer, x: &Rows) -> Rows {
        let Architecture { num_attention_heads: heads, num_key_value_heads: groups, head_dim: dim, .. } = *self.config;
        let at = |name: &str| format!("layers.{i}.self_attn.{name}");
        let bias = self.config.design.biases.qkv;
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|name| self.linear(&at(name), x, bias));
        let part = |x: &Rows, head: usize| x.iter().map(|x| x[head * dim..][..dim].to_vec()).collect::<Rows>();
        let prepared = |x: &Rows, head: usize, norm: &str| {
            let mut x = part(x, head);
            if self.config.design.normalises_queries_and_keys {
                x = self.rms(&at(norm), &x);
            }
            x.iter().enumerate().map(|(p, x)| rotated(x, p, layer.rope)).collect::<Rows>()
        };
        let mut mixed = vec![Vec::new(); x.len()];
        for head in 0..heads {
            let group = head / (heads / groups);
            let (q, k, v) = (prepared(&q, head, "q_norm"), prepared(&k, group, "k_norm"), part(&v, group));
            for (i, mixed) in mixed.iter_mut().enumerate() {
                let Span { before, after } = layer.span;
                let seen = i.saturating_sub(before)..x.len().min(i.saturating_add(after).saturating_add(1));
                let score = |j: usize| {
                    let dot: f64 = q[i].iter().zip(&k[j]).map(|(q, k)| q * k).sum();
                    (dot / self.config.query_pre_attn_scalar.sqrt() + self.relative(head, i, j)).exp()
                };
                let e: Vec<f64> = seen.clone().map(score).collect();
                let sum: f64 = e.iter().sum();
                mixed.extend((0..dim).map(|c| seen.clone().zip(&e).map(|(j, e)| e / sum * v[j][c]).sum::<f64>()));
            }
        }
        self.linear(&at("o_proj"), &mixed, self.config.design.biases.output)
    }

    fn relative(&self, head: usize, query: usize, key: usize) -> f64 {
        if self.config.design.positions != Positions::LearnedAndRelative {
            return 0.0;
        }
        let table = self.table("encoder.relative_attention_bias.weight");
        table[relative::bucket(key as isize - query as isize)][head]
    }

    fn feed_forward(&self, i: usize, x: &Rows) -> Rows {
        let Biases { up, down, .. } = self.config.design.biases;
        let at = |name: &str| format!("layers.{i}.mlp.{name}");
        let activation = |x: f64| match self.config.hidden_act {
            Gelu => gelu(x),
            GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
            Relu => x.max(0.0),
            Silu => x / (1.0 + (-x).exp()),
        };
        let mut inner = self.linear(&at("gate_proj"), x, up);
        inner.iter_mut().flatten().for_each(|x| *x = activation(*x));
        if self.config.design.gated {
            let other = self.linear(&at("up_proj"), x, up);
            inner.iter_mut().flatten().zip(other.iter().flatten()).for_each(|(x, y)| *x *= y);
        }
        self.linear(&at("down_proj"), &inner, down)
    }

    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let design = self.config.design;
        if design.norm != Norm::Layer {
            return self.rms(name, x);
        }
        let gain = self.vector(&format!("{name}.weight"));
        let shift = if design.biases.norm { self.vector(&format!("{name}.bias")) } else { vec![0.0; gain.len()] };
        let normalised = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (variance + self.config.layer_norm_eps).sqrt();
            x.iter().zip(&gain).zip(&shift).map(|((x, gain), shift)| (x - mean) * scale * gain + shift).collect()
        };
        x.iter().map(normalised).collect()
    }

    fn rms(&self, name: &str, x: &Rows) -> Rows {
        let more = if self.config.design.norm == Norm::RmsPlusOne { 1.0 } else { 0.0 };
        let gain = self.vector(&format!("{name}.weight"));
        let normalised = |x: &Vec<f64>| {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            x.iter()
                .zip(&gain)
                .map(|(x, gain)| x / (mean + self.config.layer_norm_eps).sqrt() * (gain + more))
                .collect()
        };
        x.iter().map(normalised).collect()
    }

    fn linear(&self, name: &str, x: &Rows, has_bias: bool) -> Rows {
        let weight = self.table(&format!("{name}.weight"));
        let bias = if has_bias { self.vector(&format!("{name}.bias")) } else { vec![0.0; weight.len()] };
        let output = |x: &Vec<f64>| {
            let rows = weight.iter().zip(&bias);
            rows.map(|(w, b)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
        };
        x.iter().map(output).collect()
    }

    fn table(&self, name: &str) -> Rows {
        let rows: Vec<Vec<f32>> = self.weights[name].to_vec2().expect("a table");
        rows.iter().map(|row| row.iter().map(|&x| x.into()).collect()).collect()
    }

    fn vector(&self, name: &str) -> Vec<f64> {
        self.weights[name].to_vec1::<f32>().expect("a vector").into_iter().map(f64::from).collect()
    }
}

fn add(to: &mut [f64], x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
}

/// Rotates a head at position `p`, as transformers' `rotate_half` does.
fn rotated(x: &[f64], p: usize, rope: Option<Rope>) -> Vec<f64> {
    let Some(Rope { theta, factor }) = rope else { return x.to_vec() };
    let half = x.len() / 2;
    let column = |c: usize| {
        let angle = p as f64 / factor * theta.powf(-2.0 * (c % half) as f64 / x.len() as f64);
        let turned = if c < half { -x[c + half] } else { x[c - half] };
        x[c] * angle.cos() + turned * angle.sin()
    };
    (0..x.len()).map(column).collect()
}

/// Makes every tensor that any combination needs, under Gemma's names.
fn tensors(config: &Architecture, seed: u64) -> HashMap<String, Tensor> {
    let Architecture { hidden_size: n, intermediate_size: inner, head_dim: dim, .. } = *config;
    let (queries, keys) = (config.num_attention_heads * dim, config.num_key_value_heads * dim);
    let mut shapes = vec![
        ("embed_tokens".to_owned(), config.vocab_size, n),
        ("embeddings.position_embeddings".to_owned(), config.max_position_embeddings, n),
        ("embeddings.token_type_embeddings".to_owned(), config.type_vocab_size.max(1), n),
        ("encoder.relative_attention_bias".to_owned(), RELATIVE_BUCKETS, config.num_attention_heads),
        ("embeddings.LayerNorm".to_owned(), 0, n),
        ("norm".to_owned(), 0, n),
    ];
    for layer in 0..config.layers.len() {
        for (name, rows, columns) in [
            ("self_attn.q_proj", queries, n),
            ("self_attn.k_proj", keys, n),
            ("self_attn.v_proj", keys, n),
            ("self_attn.o_proj", n, queries),
            ("self_attn.q_norm", 0, dim),
            ("self_attn.k_norm", 0, dim),
            ("mlp.gate_proj", inner, n),
            ("mlp.up_proj", inner, n),
            ("mlp.down_proj", n, inner),
            ("input_layernorm", 0, n),
            ("post_attention_layernorm", 0, n),
            ("pre_feedforward_layernorm", 0, n),
            ("post_feedforward_layernorm", 0, n),
        ] {
            shapes.push((format!("layers.{layer}.{name}"), rows, columns));
        }
    }
    let mut tensors = HashMap::new();
    for (i, (name, rows, columns)) in shapes.into_iter().enumerate() {
        let numbers = |count: usize, salt: u64| filled(1, count, seed ^ (2 * i as u64 + salt) << 32).row(0).to_vec();
        let scale = if rows == 0 { 1.0 } else { (3.0 / columns as f32).sqrt() };
        let weight: Vec<f32> = numbers(rows.max(1) * columns, 0).iter().map(|x| x * scale).collect();
        let shape = if rows == 0 { vec![columns] } else { vec![rows, columns] };
        tensors.insert(format!("{name}.weight"), Tensor::from_vec(weight, shape, &Device::Cpu).expect("shape fits"));
        let outputs = if rows == 0 { columns } else { rows };
        let bias = Tensor::from_vec(numbers(outputs, 1), outputs, &Device::Cpu).expect("shape fits");
        tensors.insert(format!("{name}.bias"), bias);
    }
    tensors
}

/// Any description with tiny sizes.
fn description() -> impl Strategy<Value = Architecture> {
    let positions = prop_oneof![
        Just(Positions::Learned),
        Just(Positions::LearnedAndRelative),
        Just(Positions::Rotary),
        Just(Positions::Rotary),
    ];
    let norm = prop_oneof![Just(Norm::Layer), Just(Norm::Rms), Just(Norm::RmsPlusOne)];
    let place = prop_oneof![Just(NormPlace::After), Just(NormPlace::Before), Just(NormPlace::BeforeAndAfter)];
    let act = prop_oneof![Just(Gelu), Just(GeluTanh), Just(Relu), Just(Silu)];
    let limit = || prop_oneof![Just(usize::MAX), Just(0usize), 1..12usize];
    let layer =
        (limit(), limit(), prop_oneof![Just(1e4), Just(50.0)], prop_oneof![Just(1.0), Just(8.0)], any::<bool>());
    let sizes = (1..40usize, 1..4usize, 1..4usize, 1..10usize, prop_oneof![1..20usize, 120..140usize], 0..3usize);
    let switches = proptest::array::uniform9(any::<bool>());
    (positions, norm, place, act, sizes, proptest::collection::vec(layer, 1..4), switches).prop_map(
        |(positions, norm, norm_place, hidden_act, sizes, layers, switches)| {
            let (hidden_size, groups, queries, half, intermediate_size, type_vocab_size) = sizes;
            let [scales, normalises, heads, gated, qkv, output, up, down, of_norm] = switches;
            let rotary = positions == Positions::Rotary;
            let layer = |(before, after, theta, factor, normalises_attention)| Layer {
                span: Span { before, after },
                rope: rotary.then_some(Rope { theta, factor }),
                normalises_attention,
            };
            Architecture {
                family: Family::Gemma3,
                num_attention_heads: groups * queries,
                num_key_value_heads: groups,
                head_dim: 2 * half,
                query_pre_attn_scalar: 1.5 * half as f64,
                type_vocab_size,
                // A norm enlarges a difference of small numbers by at most 1 / √ε.
                layer_norm_eps: 0.1,
                design: Design {
                    positions,
                    scales_embeddings: scales,
                    normalises_embeddings: normalises,
                    norm,
                    norm_place,
                    normalises_queries_and_keys: heads,
                    gated,
                    biases: Biases { qkv, output, up, down, norm: of_norm },
                },
                layers: layers.into_iter().map(layer).collect(),
                ..config(hidden_size, 1, intermediate_size, 0, hidden_act)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_combination_of_parts_is_that_of_its_definition_in_f64_and_has_the_same_bits_in_any_batch_and_by_rows(
        config in description(),
        lengths in proptest::collection::vec(1..40usize, 1..5),
        seed in any::<u64>(),
    ) {
        let weights = tensors(&config, seed);
        let sequences: Vec<_> = lengths.iter().map(|&n| sequence(n, n as u32)).collect();
        let plain = Plain { config: &config, weights: &weights };
        let exact: Rows = sequences.iter().flat_map(|ids| plain.forward(ids, ids.len())).collect();
        let size = exact.iter().flatten().fold(1.0f64, |greatest, x| greatest.max(x.abs()));
        let worst = |hidden: &Hidden| {
            let pairs = hidden.values.iter().flatten().zip(exact.iter().flatten());
            pairs.map(|(&got, exact)| (f64::from(got) - exact).abs()).fold(0.0, f64::max) / size
        };
        for level in Level::supported() {
            let encoder = load(weights.clone(), &config, &at(level));
            let all = hidden(&encoder, at(level), &sequences);
            let error = worst(&all);
            prop_assert!(error <= 2.0 * f64::from(tolerance(level)), "{}: off by {:e}", level, error);
            for (form, modes) in [NumberFormat::of_f32(level), NumberFormat::Int8]
                .into_iter().flat_map(|form| [Mode::Cls, Mode::LastToken, Mode::Mean].map(|mode| (form, [mode])))
            {
                let backend = || Cpu::new(level, form, Leader::default());
                let encoder = load(weights.clone(), &config, &backend());
                let rows = hidden(&encoder, backend(), &sequences);
                // A part has two rows then.
                let by_rows = Transformer::load(builder(weights.clone()), &config, &backend(), 1).expect("all weights");
                prop_assert!(hidden(&by_rows, backend(), &sequences) == rows, "{} {:?}: in parts", level, form);
                let mut used = encoder.scratch(backend());
                let together = encoder.pooled(&slices(&sequences), &modes, &mut used).expect("ids are valid");
                for (i, (ids, vector)) in sequences.iter().zip(&together).enumerate() {
                    let fresh = &mut encoder.scratch(backend());
                    let alone = encoder.pooled(&[ids.as_slice().into()], &modes, fresh).expect("ids are valid");
                    prop_assert_eq!(&alone[0], vector, "{} {:?} {:?}", level, form, modes);
                    let token = match modes {
                        [Mode::Cls] => rows.cu_seqlens[i],
                        [Mode::LastToken] => rows.cu_seqlens[i + 1] - 1,
                        _ => continue,
                    };
                    prop_assert_eq!(&rows.values[token], vector, "{} {:?}: the shorter last layer", level, modes);
                }
            }
        }
        let padded = Accelerator::new(Device::Cpu, DType::F32);
        for (way, device) in [("padded", padded.clone()), ("packed", padded.with_packed(packed::PLAIN))] {
            let candle = || device.clone();
            for block_tokens in [CPU_BLOCK_TOKENS, 1] {
                let weights = builder(weights.clone());
                let encoder = Transformer::load(weights, &config, &candle(), block_tokens).expect("all weights");
                let error = worst(&hidden(&encoder, candle(), &sequences));
                let case = format!("{way}, blocks of {block_tokens}");
                prop_assert!(error <= 2e-5, "candle's operations, {}: off by {:e}", case, error);
            }
            let encoder = load(weights.clone(), &config, &candle());
            for (mode, token) in [(Mode::Cls, 0), (Mode::LastToken, 1)] {
                let mut scratch = encoder.scratch(candle());
                let vectors = encoder.pooled(&slices(&sequences), &[mode], &mut scratch).expect("ids are valid");
                let mut end = 0;
                for (ids, vector) in sequences.iter().zip(vectors) {
                    let exact = &exact[if token == 0 { end } else { end + ids.len() - 1 }];
                    end += ids.len();
                    let error = vector.iter().zip(exact).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
                    prop_assert!(error / size <= 2e-5, "candle's operations, {}, {:?}: off by {:e}", way, mode, error);
                }
            }
        }
    }
}

#[test]
fn the_second_text_of_a_pair_has_the_other_type_without_learned_positions() {
    let layers = vec![Layer { rope: Some(Rope { theta: 1e4, factor: 1.0 }), ..Layer::BERT }];
    let design = Design { positions: Positions::Rotary, gated: true, ..Design::BERT };
    let sizes = config(24, 2, 40, 0, Silu);
    let config = Architecture { family: Family::Gemma3, layers, design, ..sizes };
    let (weights, ids) = (tensors(&config, 3), sequence(20, 3));
    for first in [0, 7, 20] {
        let exact = Plain { config: &config, weights: &weights }.forward(&ids, first);
        let encoder = load(weights.clone(), &config, &at(cpu::level()));
        let pair = [Sequence { ids: &ids, first, left_out: 0 }];
        let mut scratch = encoder.scratch(at(cpu::level()));
        let vector = encoder.pooled(&pair, &[Mode::Cls], &mut scratch).expect("the pair is valid").remove(0);
        let error = vector.iter().zip(&exact[0]).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
        assert!(error <= 4e-5, "{first} tokens of the first text: off by {error:e}");
    }
}

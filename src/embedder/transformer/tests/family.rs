//! The members of the family compared with references: candle-transformers if it has the member, and for MPNet its
//! definition in f64.

use candle_core::Result;
use candle_transformers::models::{distilbert, xlm_roberta};

use super::*;
use crate::model::{Positions, RELATIVE_BUCKETS};

const LENGTHS: [usize; 8] = [1, 2, 7, 16, 17, 33, 64, 5];

/// RoBERTa's padding token. The ids of `sequence` contain it, as a text may that spells it.
const PADDING: u32 = 1;

fn roberta(hidden_act: model::Activation) -> Architecture {
    Architecture {
        family: Family::Roberta,
        max_position_embeddings: 66,
        padding: Some(PADDING),
        type_vocab_size: 1,
        layer_norm_eps: 1e-5,
        ..config(66, 3, 130, 2, hidden_act)
    }
}

fn distilbert(hidden_act: model::Activation) -> Architecture {
    Architecture { family: Family::DistilBert, type_vocab_size: 0, ..config(66, 3, 130, 2, hidden_act) }
}

fn mpnet(hidden_size: usize, heads: usize, positions: usize) -> Architecture {
    Architecture {
        family: Family::Mpnet,
        max_position_embeddings: positions + 2,
        padding: Some(PADDING),
        type_vocab_size: 0,
        layer_norm_eps: 1e-5,
        design: Design { positions: Positions::LearnedAndRelative, ..Design::BERT },
        ..config(hidden_size, heads, 2 * hidden_size + 1, 2, Gelu)
    }
}

/// Makes a checkpoint with a family's own names in transformers.
fn checkpoint(config: &Architecture, seed: u64) -> HashMap<String, Tensor> {
    // Made for two token types. Families without them have no name for them.
    let shapes = Architecture { type_vocab_size: config.type_vocab_size.max(1), ..config.clone() };
    let renamed: &[(&str, &str)] = match config.family {
        Family::Bert | Family::Roberta => &[],
        Family::DistilBert => &[
            ("encoder.layer", "transformer.layer"),
            ("attention.self.query", "attention.q_lin"),
            ("attention.self.key", "attention.k_lin"),
            ("attention.self.value", "attention.v_lin"),
            ("attention.output.dense", "attention.out_lin"),
            ("attention.output.LayerNorm", "sa_layer_norm"),
            ("intermediate.dense", "ffn.lin1"),
            ("output.dense", "ffn.lin2"),
            ("output.LayerNorm", "output_layer_norm"),
        ],
        Family::Mpnet => &[
            ("attention.self.query", "attention.attn.q"),
            ("attention.self.key", "attention.attn.k"),
            ("attention.self.value", "attention.attn.v"),
            ("attention.output.dense", "attention.attn.o"),
            ("attention.output.LayerNorm", "attention.LayerNorm"),
        ],
        family => unreachable!("{family} is not of BERT's kind"),
    };
    let rename = |name: String| renamed.iter().fold(name, |name, (from, to)| name.replace(from, to));
    let mut tensors: HashMap<String, Tensor> =
        weights(&shapes, seed).into_iter().map(|(name, tensor)| (rename(name), tensor)).collect();
    if config.type_vocab_size == 0 {
        tensors.remove("embeddings.token_type_embeddings.weight");
    }
    if config.family == Family::Mpnet {
        let heads = config.num_attention_heads;
        let numbers = filled(1, RELATIVE_BUCKETS * heads, seed + 1).row(0).to_vec();
        let table = Tensor::from_vec(numbers, (RELATIVE_BUCKETS, heads), &Device::Cpu).expect("shape fits");
        tensors.insert("encoder.relative_attention_bias.weight".to_owned(), table);
    }
    tensors
}

/// Compares every token of the last layer with `reference`, at every level and with candle's operations. `reference`
/// computes one sequence.
fn assert_agrees(
    config: &Architecture,
    weights: &HashMap<String, Tensor>,
    sequences: &[Vec<u32>],
    reference: impl Fn(&[u32]) -> Vec<f32>,
) {
    let exact: Vec<f32> = sequences.iter().flat_map(|ids| reference(ids)).collect();
    let worst = |hidden: Hidden| {
        let got = hidden.values.concat();
        assert_eq!(got.len(), exact.len());
        got.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    for level in Level::supported() {
        let worst = worst(hidden(&load(weights.clone(), config, &at(level)), at(level), sequences));
        assert!(worst <= tolerance(level), "{} at {level}: off by {worst:e}", config.family);
    }
    let candle = Accelerator::new(Device::Cpu, DType::F32);
    let worst = worst(hidden(&load(weights.clone(), config, &candle), candle, sequences));
    assert!(worst <= 1e-5, "{} by candle's operations: off by {worst:e}", config.family);
}

fn sequences() -> Vec<Vec<u32>> {
    let sequences: Vec<_> = LENGTHS.into_iter().map(|n| sequence(n, n as u32)).collect();
    assert!(sequences.iter().any(|ids| ids.contains(&PADDING)), "a text spells padding out");
    sequences
}

#[test]
fn every_token_of_xlm_roberta_is_that_of_candle_transformers() {
    use candle_nn::Activation::{Gelu as Erf, NewGelu, Relu as Max};
    for (seed, (ours, theirs)) in [(Gelu, Erf), (GeluTanh, NewGelu), (Relu, Max)].into_iter().enumerate() {
        let config = roberta(ours);
        let weights = checkpoint(&config, seed as u64);
        let settings = xlm_roberta::Config {
            hidden_size: config.hidden_size,
            layer_norm_eps: config.layer_norm_eps,
            attention_probs_dropout_prob: 0.0,
            hidden_dropout_prob: 0.0,
            num_attention_heads: config.num_attention_heads,
            position_embedding_type: "absolute".to_owned(),
            intermediate_size: config.intermediate_size,
            hidden_act: theirs,
            num_hidden_layers: config.layers.len(),
            vocab_size: config.vocab_size,
            max_position_embeddings: config.max_position_embeddings,
            type_vocab_size: config.type_vocab_size,
            pad_token_id: PADDING,
        };
        let reference = xlm_roberta::XLMRobertaModel::new(&settings, builder(weights.clone())).expect("complete");
        let compute = |ids: &[u32]| -> Result<Vec<f32>> {
            let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
            reference.forward(&ids, &ids.ones_like()?, &ids.zeros_like()?, None, None, None)?.flatten_all()?.to_vec1()
        };
        assert_agrees(&config, &weights, &sequences(), |ids| compute(ids).expect("the reference computes"));
    }
}

#[test]
fn every_token_of_distilbert_is_that_of_candle_transformers() {
    // "gelu" in transformers has the error function; candle's DistilBERT uses the tanh.
    for (seed, (ours, theirs)) in [(GeluTanh, "gelu"), (Relu, "relu")].into_iter().enumerate() {
        let config = distilbert(ours);
        let weights = checkpoint(&config, seed as u64);
        let settings = serde_json::json!({
            "vocab_size": config.vocab_size,
            "dim": config.hidden_size,
            "n_layers": config.layers.len(),
            "n_heads": config.num_attention_heads,
            "hidden_dim": config.intermediate_size,
            "activation": theirs,
            "max_position_embeddings": config.max_position_embeddings,
            "initializer_range": 0.02,
            "pad_token_id": 0,
        });
        let settings: distilbert::Config = serde_json::from_value(settings).expect("complete");
        let reference = distilbert::DistilBertModel::load(builder(weights.clone()), &settings).expect("complete");
        let compute = |ids: &[u32]| -> Result<Vec<f32>> {
            // Its mask is 1 for hidden tokens.
            let hidden = Tensor::zeros((1, ids.len()), DType::U8, &Device::Cpu)?;
            let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
            reference.forward(&ids, &hidden)?.flatten_all()?.to_vec1()
        };
        assert_agrees(&config, &weights, &sequences(), |ids| compute(ids).expect("the reference computes"));
    }
}

#[test]
fn every_token_of_mpnet_is_that_of_its_definition_in_f64() {
    let long: Vec<_> = [1, 2, 9, 40, 150].into_iter().map(|n| sequence(n, n as u32)).collect();
    for (seed, (config, sequences)) in
        [(mpnet(66, 3, 64), sequences()), (mpnet(20, 4, 150), long)].into_iter().enumerate()
    {
        let weights = checkpoint(&config, seed as u64);
        let plain = PlainMpnet { config: &config, weights: &weights };
        assert_agrees(&config, &weights, &sequences, |ids| plain.forward(ids).concat());
    }
}

#[test]
fn each_family_has_the_same_bits_in_any_batch_with_either_pooling() {
    for config in [roberta(Gelu), distilbert(Gelu), mpnet(52, 4, 64)] {
        let sequences = sequences();
        for level in Level::supported() {
            let bert = load(checkpoint(&config, 7), &config, &at(level));
            let mut used = bert.scratch(at(level));
            let hidden = hidden_in(&mut used, &bert, &sequences);
            for pooling in [&[Mode::Mean], &[Mode::Cls]] as [&[Mode]; 2] {
                let together = bert.pooled(&slices(&sequences), pooling, &mut used).expect("ids are valid");
                for (i, (ids, vector)) in sequences.iter().zip(&together).enumerate() {
                    let alone = bert
                        .pooled(&[ids.as_slice().into()], pooling, &mut bert.scratch(at(level)))
                        .expect("ids are valid");
                    assert_eq!(&alone[0], vector, "{:?} {level} {pooling:?}", config.family);
                    if pooling == [Mode::Cls] {
                        let first = &hidden.values[hidden.cu_seqlens[i]];
                        assert_eq!(first, vector, "{:?} {level}: the shorter last layer", config.family);
                    }
                }
            }
        }
    }
}

#[test]
fn each_familys_prefix_is_understood() {
    for (config, prefix) in [(roberta(Gelu), "roberta"), (distilbert(Gelu), "distilbert"), (mpnet(32, 2, 64), "mpnet")]
    {
        let plain = checkpoint(&config, 1);
        let with_head = plain.iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor.clone())).collect();
        let ids = [sequence(9, 1)];
        let hidden = |weights| hidden(&load(weights, &config, &at(cpu::level())), at(cpu::level()), &ids);
        assert_eq!(hidden(plain), hidden(with_head), "{prefix}");
    }
}

#[test]
fn robertas_longest_text_is_two_tokens_shorter_than_its_table() {
    let config = roberta(Gelu);
    let bert = load(checkpoint(&config, 1), &config, &at(cpu::level()));
    let result = |ids: &[u32]| bert.pooled(&[ids.into()], &[Mode::Mean], &mut bert.scratch(at(cpu::level()))).map(drop);
    assert!(result(&[5; 64]).is_ok());
    let refused = result(&[5; 65]).unwrap_err().to_string();
    assert_eq!(refused, "sequence 0 has 65 tokens, the model has 64 positions");
    let pair = [Sequence { ids: &[5; 64], first: 20, left_out: 0 }];
    let refused = bert.pooled(&pair, &[Mode::Cls], &mut bert.scratch(at(cpu::level()))).unwrap_err().to_string();
    assert_eq!(refused, "sequence 0 has tokens of type 1, the model has 1 token types");
}

/// Computes MPNet as transformers defines it, without dropout and batches.
struct PlainMpnet<'a> {
    config: &'a Architecture,
    weights: &'a HashMap<String, Tensor>,
}

type Rows = Vec<Vec<f64>>;

impl PlainMpnet<'_> {
    fn forward(&self, ids: &[u32]) -> Vec<Vec<f32>> {
        let (words, places) =
            (self.table("embeddings.word_embeddings.weight"), self.table("embeddings.position_embeddings.weight"));
        let mut position = PADDING as usize;
        let mut x: Rows = ids
            .iter()
            .map(|&id| {
                let place = if id == PADDING {
                    &places[PADDING as usize]
                } else {
                    position += 1;
                    &places[position]
                };
                words[id as usize].iter().zip(place).map(|(w, p)| w + p).collect()
            })
            .collect();
        self.normalise("embeddings", &mut x);
        for layer in 0..self.config.layers.len() {
            let at = |name: &str| format!("encoder.layer.{layer}.{name}");
            let [q, k, v] = ["q", "k", "v"].map(|name| self.linear(&at(&format!("attention.attn.{name}")), &x));
            let mixed = self.attention(&q, &k, &v);
            let mut attended = add(&self.linear(&at("attention.attn.o"), &mixed), &x);
            self.normalise(&at("attention"), &mut attended);
            let mut inner = self.linear(&at("intermediate.dense"), &attended);
            inner.iter_mut().flatten().for_each(|x| *x = gelu(*x));
            x = add(&self.linear(&at("output.dense"), &inner), &attended);
            self.normalise(&at("output"), &mut x);
        }
        x.into_iter().map(|row| row.into_iter().map(|x| x as f32).collect()).collect()
    }

    fn attention(&self, q: &Rows, k: &Rows, v: &Rows) -> Rows {
        let (heads, n) = (self.config.num_attention_heads, self.config.hidden_size);
        let dim = n / heads;
        let table = self.table("encoder.relative_attention_bias.weight");
        let bias = |head: usize, distance| table[bucket(distance)][head];
        let mut mixed = vec![vec![0.0; n]; q.len()];
        for (i, mixed) in mixed.iter_mut().enumerate() {
            for head in 0..heads {
                let of = head * dim..(head + 1) * dim;
                let score = |j: usize| {
                    let dot: f64 = q[i][of.clone()].iter().zip(&k[j][of.clone()]).map(|(q, k)| q * k).sum();
                    (dot / (dim as f64).sqrt() + bias(head, j as i64 - i as i64)).exp()
                };
                let e: Vec<f64> = (0..k.len()).map(score).collect();
                let sum: f64 = e.iter().sum();
                for c in of {
                    mixed[c] = e.iter().zip(v).map(|(e, v)| e / sum * v[c]).sum();
                }
            }
        }
        mixed
    }

    fn table(&self, name: &str) -> Rows {
        let rows: Vec<Vec<f32>> = self.weights[name].to_vec2().expect("a table");
        rows.iter().map(|row| row.iter().map(|&x| x.into()).collect()).collect()
    }

    fn vector(&self, name: &str) -> Vec<f64> {
        self.weights[name].to_vec1::<f32>().expect("a vector").into_iter().map(f64::from).collect()
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let (weight, bias) = (self.table(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        let out = |x: &Vec<f64>| {
            let columns = weight.iter().zip(&bias);
            columns.map(|(w, b)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
        };
        x.iter().map(out).collect()
    }

    fn normalise(&self, below: &str, x: &mut Rows) {
        let gain = self.vector(&format!("{below}.LayerNorm.weight"));
        let shift = self.vector(&format!("{below}.LayerNorm.bias"));
        for row in x {
            let n = row.len() as f64;
            let mean = row.iter().sum::<f64>() / n;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let scale = 1.0 / (variance + self.config.layer_norm_eps).sqrt();
            for (x, (gain, shift)) in row.iter_mut().zip(gain.iter().zip(&shift)) {
                *x = (*x - mean) * scale * gain + shift;
            }
        }
    }
}

fn add(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// Computes x Φ(x), with Φ by Simpson's rule from 0.
pub(super) fn gelu(x: f64) -> f64 {
    const STEPS: usize = 200;
    let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let h = x / STEPS as f64;
    let factor = |i: usize| if i == 0 || i == STEPS { 1.0 } else { (2 + 2 * (i % 2)) as f64 };
    let area: f64 = (0..=STEPS).map(|i| factor(i) * density(h * i as f64)).sum::<f64>() * h / 3.0;
    x * (0.5 + area)
}

/// Finds the row for a distance by the boundaries between rows. The distances 0 to 7 have rows of their own, and each
/// further row begins √2 times as far as the one before.
fn bucket(distance: i64) -> usize {
    let begins = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
    let row = begins.iter().filter(|&&begin| distance.abs() >= begin).count();
    if distance > 0 { 16 + row } else { row }
}

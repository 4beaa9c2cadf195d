//! What a fit makes small, and its gradient.
//!
//! ```text
//! f(W, b) = Σᵢ wᵢ·(log Σ_c e^{zᵢ[c]} − zᵢ[yᵢ]) + l2/2·|W|²      zᵢ = W·xᵢ + b,  Σ wᵢ = 1
//! ∂f/∂z   = wᵢ·(softmax(zᵢ) − onehot(yᵢ))
//! ```
//! (Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.) With l2 > 0 it is strictly convex in W.
//!
//! Embeddings of a model share a large mean. [`Points`] are stored without it, which changes nothing but the meaning of
//! the bias (W·x + b = W·(x − m) + (b + W·m)) and makes the search several times shorter.

/// Rows of points that are computed together: each weight that is loaded serves them all.
const ROWS: usize = 4;
/// Independent sums of a dot product. Points are padded to a multiple.
pub(super) const LANES: usize = 4;

/// Vectors in f64, less their mean, and how they are spread.
pub(super) struct Points {
    /// [points, stride], zeros after `dimensions`.
    values: Vec<f64>,
    /// `[stride]`
    mean: Vec<f64>,
    /// Σ x·xᵀ / points: [stride, stride], of which the lower triangle counts.
    pub covariance: Vec<f64>,
    pub dimensions: usize,
    pub stride: usize,
}

impl Points {
    /// `vectors`: [points, dimensions] f32, row-major.
    pub fn new(vectors: &[f32], dimensions: usize) -> Self {
        let stride = dimensions.next_multiple_of(LANES);
        let n_points = vectors.len() / dimensions;
        let mut mean = vec![0.0; stride];
        for vector in vectors.chunks_exact(dimensions) {
            mean.iter_mut().zip(vector).for_each(|(mean, &x)| *mean += f64::from(x) / n_points as f64);
        }
        let mut values = vec![0.0; n_points * stride];
        for (point, vector) in values.chunks_exact_mut(stride).zip(vectors.chunks_exact(dimensions)) {
            for ((value, &x), mean) in point.iter_mut().zip(vector).zip(&mean) {
                *value = f64::from(x) - mean;
            }
        }
        let covariance = covariance(&values, stride);
        Self { values, mean, covariance, dimensions, stride }
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.stride..][..self.stride]
    }
}

/// One point that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// Of [`Points`].
    pub row: usize,
    /// Below the number of labels.
    pub label: usize,
    /// wᵢ, 0 or more.
    pub weight: f64,
}

/// The function. Its parameters are `[n_labels, stride]` weights, then `[n_labels]` biases.
pub(super) struct Objective<'a> {
    pub points: &'a Points,
    pub terms: &'a [Term],
    pub n_labels: usize,
    pub l2: f64,
}

impl Objective<'_> {
    /// Parameters that are all 0: every label is as likely.
    pub fn start(&self) -> Vec<f64> {
        vec![0.0; self.n_labels * (self.points.stride + 1)]
    }

    /// Parameters for vectors as they were before their mean was taken off: `[n_labels, dimensions]` and `[n_labels]`.
    pub fn unpack(&self, parameters: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let Points { mean, dimensions, stride, .. } = self.points;
        let (weights, bias) = parameters.split_at(self.n_labels * stride);
        let of_label = weights.chunks_exact(*stride);
        let bias = of_label.clone().zip(bias).map(|(w, b)| b - w.iter().zip(mean).map(|(w, m)| w * m).sum::<f64>());
        (of_label.flat_map(|w| &w[..*dimensions]).copied().collect(), bias.collect())
    }

    /// The value at `parameters`; writes the gradient there.
    pub fn evaluate(&self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let stride = self.points.stride;
        let (weights, bias) = parameters.split_at(self.n_labels * stride);
        let (to_weights, to_bias) = gradient.split_at_mut(self.n_labels * stride);
        to_weights.iter_mut().zip(weights).for_each(|(g, w)| *g = self.l2 * w);
        to_bias.fill(0.0);
        let mut value = self.l2 / 2.0 * weights.iter().map(|w| w * w).sum::<f64>();

        // [ROWS, n_labels]: logits, then what each adds to the gradient.
        let mut logits = vec![0.0; ROWS * self.n_labels];
        for terms in self.terms.chunks(ROWS) {
            // Rows that are missing in the last block are the block's first again, and weigh nothing.
            let term = |i: usize| terms.get(i).copied().unwrap_or(Term { weight: 0.0, ..terms[0] });
            let terms: [Term; ROWS] = std::array::from_fn(term);
            let rows = terms.map(|term| self.points.row(term.row));
            for (label, (w, b)) in weights.chunks_exact(stride).zip(bias).enumerate() {
                for (i, z) in dots(rows, w).into_iter().enumerate() {
                    logits[i * self.n_labels + label] = z + b;
                }
            }
            for (term, logits) in terms.iter().zip(logits.chunks_exact_mut(self.n_labels)) {
                value += term.weight * loss(logits, term.label);
                logits[term.label] -= 1.0;
                logits.iter_mut().for_each(|z| *z *= term.weight);
            }
            for (label, (w, b)) in to_weights.chunks_exact_mut(stride).zip(to_bias.iter_mut()).enumerate() {
                let factors = std::array::from_fn(|i| logits[i * self.n_labels + label]);
                add(w, factors, rows);
                *b += factors.iter().sum::<f64>();
            }
        }
        value
    }
}

/// Cross-entropy of logits for a label; turns the logits into their softmax.
pub(super) fn loss(logits: &mut [f64], label: usize) -> f64 {
    // The largest becomes 0, so that no power overflows and their sum is 1 or more.
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let wanted = logits[label] - largest;
    let mut sum = 0.0;
    for z in &mut *logits {
        *z = (*z - largest).exp();
        sum += *z;
    }
    logits.iter_mut().for_each(|z| *z /= sum);
    sum.ln() - wanted
}

/// The lower triangle of Σ x·xᵀ / points. `values`: [points, stride].
fn covariance(values: &[f64], stride: usize) -> Vec<f64> {
    let share = stride as f64 / values.len() as f64;
    let zeros = vec![0.0; stride];
    let mut covariance = vec![0.0; stride * stride];
    for points in values.chunks(ROWS * stride) {
        let rows: [&[f64]; ROWS] = std::array::from_fn(|i| points.chunks_exact(stride).nth(i).unwrap_or(&zeros));
        for (i, row) in covariance.chunks_exact_mut(stride).enumerate() {
            add(&mut row[..=i], rows.map(|row| share * row[i]), rows);
        }
    }
    covariance
}

/// Dot product of each row with `w`; all of one length, a multiple of [`LANES`].
fn dots(rows: [&[f64]; ROWS], w: &[f64]) -> [f64; ROWS] {
    let (w, _) = w.as_chunks::<LANES>();
    let rows = rows.map(|row| &row.as_chunks::<LANES>().0[..w.len()]);
    let mut sums = [[0.0; LANES]; ROWS];
    for (i, w) in w.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            for lane in 0..LANES {
                sums[lane] += row[i][lane] * w[lane];
            }
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}

/// `to` += Σ factor · row; rows may be longer.
fn add(to: &mut [f64], factors: [f64; ROWS], rows: [&[f64]; ROWS]) {
    let [a, b, c, d] = rows.map(|row| &row[..to.len()]);
    for (i, to) in to.iter_mut().enumerate() {
        *to += (factors[0] * a[i] + factors[1] * b[i]) + (factors[2] * c[i] + factors[3] * d[i]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::cloud;
    use super::*;

    proptest! {
        #[test]
        fn the_gradient_is_that_of_differences(
            n in 1usize..12, dimensions in 1usize..10, n_labels in 2usize..5, seed: u64, l2 in 0.0f64..1.0,
            scale in 0.1f64..5.0,
        ) {
            let (vectors, labels) = cloud(n, dimensions, n_labels, 1.0, seed);
            let points = Points::new(&vectors, dimensions);
            let term = |(row, &label)| Term { row, label, weight: (1.0 + row as f64) / n as f64 };
            let terms: Vec<Term> = labels.iter().enumerate().map(term).collect();
            let objective = Objective { points: &points, terms: &terms, n_labels, l2 };
            let mut at = objective.start();
            at.iter_mut().enumerate().for_each(|(i, x)| *x = scale * (i as f64 + seed as f64 % 7.0).sin());
            let mut gradient = vec![f64::NAN; at.len()];
            objective.evaluate(&at, &mut gradient);
            let mut other = gradient.clone();
            for i in 0..at.len() {
                let middle = at[i];
                let mut value = |x| {
                    at[i] = x;
                    objective.evaluate(&at, &mut other)
                };
                let slope = (value(middle + 1e-5) - value(middle - 1e-5)) / 2e-5;
                at[i] = middle;
                // 1e-10 of truncation, and 1e-16 of the value over the step of rounding.
                prop_assert!((slope - gradient[i]).abs() <= 1e-8 * (1.0 + scale * scale), "{i}: {slope}, {}", gradient[i]);
            }
        }

        #[test]
        fn softmax_sums_to_1_and_does_not_see_a_shift(
            logits in prop::collection::vec(-50f64..50.0, 1..20), shift in -1e4f64..1e4,
        ) {
            let (mut plain, mut shifted) = (logits.clone(), logits.iter().map(|z| z + shift).collect::<Vec<_>>());
            let (loss_plain, loss_shifted) = (loss(&mut plain, 0), loss(&mut shifted, 0));
            prop_assert!((plain.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            // The shift rounds logits by 1e-12 each.
            prop_assert!((loss_plain - loss_shifted).abs() < 1e-10);
            prop_assert!(plain.iter().zip(&shifted).all(|(a, b)| (a - b).abs() < 1e-10));
            prop_assert!((loss_plain + plain[0].ln()).abs() < 1e-9 * (1.0 + loss_plain));
        }
    }

    #[test]
    fn logits_of_any_size_overflow_nowhere() {
        for logits in [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [1e300, 0.0, -1e300]] {
            for label in 0..3 {
                let mut z = logits;
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let loss = loss(&mut z, label);
                assert!(loss.is_finite() && loss >= largest - logits[label], "{logits:?}: {loss}");
                assert!(z.iter().all(|p| (0.0..=1.0).contains(p)), "{logits:?}: {z:?}");
            }
        }
    }

    #[test]
    fn parameters_are_unpacked_for_vectors_as_they_were() {
        let (vectors, labels) = cloud(9, 5, 3, 1.0, 3);
        let points = Points::new(&vectors, 5);
        let terms = [Term { row: 4, label: labels[4], weight: 1.0 }];
        let objective = Objective { points: &points, terms: &terms, n_labels: 3, l2: 0.0 };
        let mut at = objective.start();
        at.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f64).sin());
        let value = objective.evaluate(&at, &mut objective.start());
        let (weights, bias) = objective.unpack(&at);
        let logit =
            |(w, b): (&[f64], &f64)| b + w.iter().zip(&vectors[20..]).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
        let mut logits: Vec<f64> = weights.chunks_exact(5).zip(&bias).map(logit).collect();
        assert!((loss(&mut logits, labels[4]) - value).abs() < 1e-12);
    }
}

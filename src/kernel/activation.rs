//! The activation functions of the feed-forward layer, a vector at a time.

use super::simd::{Kernel, Simd, run};
use super::softmax::exp;
use crate::machine::cpu::Level;

/// The activation functions that checkpoints name in `hidden_act`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · Φ(x) with the exact normal distribution function (Hendrycks and Gimpel, 2016).
    Gelu,
    /// GELU with Φ approximated by tanh: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    GeluTanh,
    /// max(x, 0)
    Relu,
    /// x / (1 + e^−x), also called swish.
    Silu,
}

impl Activation {
    /// Computes one vector of values, with an error of at most 3e-7 · max(1, |x|) against exact arithmetic.
    #[inline(always)]
    pub(super) fn of<S: Simd>(self, s: S, x: S::V) -> S::V {
        match self {
            Self::Gelu => s.mul(x, normal_cdf(s, x)),
            Self::GeluTanh => gelu_tanh(s, x),
            Self::Relu => s.max(x, s.splat(0.0)),
            Self::Silu => s.div(x, s.add(exp(s, s.sub(s.splat(0.0), x)), s.splat(1.0))),
        }
    }

    /// Replaces every value.
    pub fn apply(self, level: Level, values: &mut [f32]) {
        run(level, Apply { activation: self, values });
    }

    /// Replaces every value.
    // Not a closure: if the compiler did not inline it, it would be compiled without the instructions.
    #[inline(always)]
    pub(super) fn each<S: Simd>(self, s: S, values: &mut [f32]) {
        let mut whole = values.chunks_exact_mut(S::LANES);
        for chunk in &mut whole {
            s.store(self.of(s, s.load(chunk)), chunk);
        }
        let rest = whole.into_remainder();
        s.store_first(self.of(s, s.load_or(rest, 0.0)), rest);
    }
}

impl Activation {
    /// Computes `out = activation(a) · b`, as many values of each.
    #[inline(always)]
    pub(super) fn gate<S: Simd>(self, s: S, a: &[f32], b: &[f32], out: &mut [f32]) {
        let (mut a, mut b) = (a.chunks_exact(S::LANES), b.chunks_exact(S::LANES));
        let mut out = out.chunks_exact_mut(S::LANES);
        for ((a, b), out) in (&mut a).zip(&mut b).zip(&mut out) {
            s.store(s.mul(self.of(s, s.load(a)), s.load(b)), out);
        }
        let (a, b) = (s.load_or(a.remainder(), 0.0), s.load_or(b.remainder(), 0.0));
        s.store_first(s.mul(self.of(s, a), b), out.into_remainder());
    }
}

/// Limit of the polynomial: beyond it, Φ is 0 or 1 to 8e-8.
const CDF_EDGE: f32 = 5.25;

/// The polynomial (Φ(x) − ½) / x in t = 2 x² / [`CDF_EDGE`]² − 1, which is in [-1, 1], lowest power first: the
/// interpolant at the 15 Chebyshev nodes, computed with 50 digits. Evaluated in f32, the error of Φ is below
/// 1.1e-7. In the centred t the coefficients decrease, so Horner's scheme loses nothing.
const CDF: [f32; 15] = [
    1.346_593_5e-1,
    -6.712_685_5e-2,
    4.964_598_6e-2,
    -3.976_217_3e-2,
    3.202_755e-2,
    -2.505_319_2e-2,
    1.856_592_5e-2,
    -1.273_210_1e-2,
    8.328_681e-3,
    -5.528_017_4e-3,
    3.039_716_7e-3,
    -9.698_687_4e-4,
    5.455_137e-4,
    -6.798_869e-4,
    2.774_600_3e-4,
];

/// Φ, the distribution function of the standard normal.
#[inline(always)]
fn normal_cdf<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.min(s.max(x, s.splat(-CDF_EDGE)), s.splat(CDF_EDGE));
    let t = s.mul_add(s.mul(x, x), s.splat(2.0 / (CDF_EDGE * CDF_EDGE)), s.splat(-1.0));
    let mut p = s.splat(CDF[14]);
    for &c in CDF[..14].iter().rev() {
        p = s.mul_add(p, t, s.splat(c));
    }
    s.mul_add(x, p, s.splat(0.5))
}

#[inline(always)]
fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // ½ (1 + tanh z) = 1 / (1 + e^(-2z)), which does not cancel for negative z.
    const MINUS_TWO_ROOT_TWO_OVER_PI: f32 = -1.595_769;
    let cubic = s.mul_add(s.mul(s.mul(x, x), x), s.splat(0.044715), x);
    let e = exp(s, s.mul(cubic, s.splat(MINUS_TWO_ROOT_TWO_OVER_PI)));
    s.div(x, s.add(e, s.splat(1.0)))
}

struct Apply<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.activation.each(s, self.values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cpu;

    /// erf by its Taylor series up to 3, and beyond by the continued fraction of erfc, in f64 (Abramowitz and
    /// Stegun 7.1.6 and 7.1.14), exact to about 1e-15.
    fn erf(x: f64) -> f64 {
        let a = x.abs();
        let value = if a < 3.0 {
            let (mut term, mut sum, mut n) = (a, a, 0.0);
            while term > 1e-18 * sum {
                n += 1.0;
                term *= 2.0 * a * a / (2.0 * n + 1.0);
                sum += term;
            }
            sum * (-a * a).exp() * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let fraction = (1..60).rev().fold(a, |tail, k| a + f64::from(k) / 2.0 / tail);
            1.0 - (-a * a).exp() / (std::f64::consts::PI.sqrt() * fraction)
        };
        value.copysign(x)
    }

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Gelu => x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Relu => x.max(0.0),
            Activation::Silu => x / (1.0 + (-x).exp()),
        }
    }

    #[test]
    fn activations_are_within_3e_7_of_exact_arithmetic_at_every_level_and_length() {
        let xs: Vec<f32> =
            (-100_000..=100_000).map(|i| i as f32 * 1.2e-4).chain([0.0, -0.0, 1e-30, 80.0, -80.0, 1e6, -1e6]).collect();
        for level in cpu::Level::supported() {
            for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
                let mut got = xs.clone();
                activation.apply(level, &mut got);
                for (&x, &y) in xs.iter().zip(&got) {
                    let error = (f64::from(y) - exact(activation, f64::from(x))).abs();
                    let tolerance = 3e-7 * f64::from(x.abs().max(1.0));
                    assert!(error <= tolerance, "{level:?} {activation:?}({x}) = {y}, off by {error:e}");
                }
                for n in 0..50 {
                    let mut short = xs[..n].to_vec();
                    activation.apply(level, &mut short);
                    assert_eq!(short, got[..n], "{level:?} {activation:?} of {n} values");
                }
            }
        }
    }
}

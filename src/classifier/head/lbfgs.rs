//! The least value of a smooth convex function: L-BFGS (Nocedal and Wright, Numerical Optimization, 2nd ed., 2006).
//!
//! ```text
//! repeat until |∇f(x)| ≤ tolerance:
//!     d = −H·∇f(x)     H: inverse Hessian, as a guess and the last MEMORY steps tell it, never formed (algorithm 7.4)
//!     t: f(x + t·d) ≤ f(x) + SUFFICIENT·t·dᵀ∇f(x)  and  dᵀ∇f(x + t·d) ≥ STEEPNESS·dᵀ∇f(x)     (3.6, Wolfe; 1 first)
//!     x = x + t·d
//! ```
//! The second condition makes sᵀy > 0 for the step s and the change of gradient y, which keeps H positive definite.
//! Nothing is random: the same function and start give the same bits.

use std::collections::VecDeque;

/// Steps remembered. Nocedal and Wright, page 179: from 3 to 20 in practice.
const MEMORY: usize = 10;
/// c₁ and c₂ of the Wolfe conditions, as Nocedal and Wright recommend for quasi-Newton methods (pages 33 and 34).
const SUFFICIENT: f64 = 1e-4;
const STEEPNESS: f64 = 0.9;
/// Trials along a direction: halving a step so often leaves nothing of it in f64.
const TRIALS: usize = 60;
/// Far beyond what a regularised fit needs (tens to a few hundred).
const ITERATIONS: usize = 2_000;

/// Where a search ended.
#[derive(Debug, Clone)]
pub(super) struct Minimum {
    pub at: Vec<f64>,
    /// The gradient is within the tolerance. If not, rounding or the limit of iterations ended the search.
    pub converged: bool,
}

/// A place, and what the function is there.
struct Place {
    at: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// Searches from `start`. `function` takes a place, writes the gradient there (every element) and returns the value;
/// `guess` multiplies by a guess of the inverse Hessian, positive definite and always the same; `tolerance` is the
/// length of the gradient that is near enough to 0.
pub(super) fn minimise(
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
    guess: impl Fn(&mut [f64]),
    start: Vec<f64>,
    tolerance: f64,
) -> Minimum {
    let mut here = Place { gradient: vec![0.0; start.len()], at: start, value: 0.0 };
    here.value = function(&here.at, &mut here.gradient);
    let mut next = Place { at: here.at.clone(), value: 0.0, gradient: here.gradient.clone() };
    let mut curvature = Curvature::default();
    for _ in 0..ITERATIONS {
        if length(&here.gradient) <= tolerance {
            break;
        }
        let direction = curvature.direction(&here.gradient, &guess);
        if !step(&mut function, &here, &direction, &mut next) {
            break;
        }
        curvature.push(&here, &next);
        std::mem::swap(&mut here, &mut next);
    }
    Minimum { converged: length(&here.gradient) <= tolerance, at: here.at }
}

/// Goes along `direction` to where both Wolfe conditions hold: doubles the step while it is too short, then halves the
/// interval (Lewis and Overton, Nonsmooth optimization via quasi-Newton methods, 2013, algorithm 2.6). `false`: no step
/// that f64 can tell from none lowers the value.
fn step(function: &mut impl FnMut(&[f64], &mut [f64]) -> f64, from: &Place, direction: &[f64], to: &mut Place) -> bool {
    let slope = dot(&from.gradient, direction);
    if slope >= 0.0 {
        // H is positive definite: the gradient is nothing but rounding.
        return false;
    }
    let (mut short, mut long) = (0.0, f64::INFINITY);
    let mut t = 1.0;
    for _ in 0..TRIALS {
        for ((to, &from), &d) in to.at.iter_mut().zip(&from.at).zip(direction) {
            *to = from + t * d;
        }
        to.value = function(&to.at, &mut to.gradient);
        // Not `>`: a value that is NaN is no decrease.
        let is_lower = to.value <= from.value + SUFFICIENT * t * slope;
        if !is_lower {
            long = t;
        } else if dot(&to.gradient, direction) < STEEPNESS * slope {
            short = t;
        } else {
            return true;
        }
        t = if long.is_finite() { (short + long) / 2.0 } else { 2.0 * short };
    }
    false
}

/// What the last steps tell of the inverse Hessian.
#[derive(Default)]
struct Curvature {
    /// Oldest first.
    steps: VecDeque<Step>,
}

struct Step {
    /// s = x' − x.
    moved: Vec<f64>,
    /// y = ∇f(x') − ∇f(x).
    turned: Vec<f64>,
    /// 1 / sᵀy.
    rho: f64,
}

impl Curvature {
    fn push(&mut self, here: &Place, next: &Place) {
        let moved = difference(&next.at, &here.at);
        let turned = difference(&next.gradient, &here.gradient);
        let product = dot(&moved, &turned);
        if product <= 0.0 {
            // Both conditions rule it out, rounding may not.
            return;
        }
        if self.steps.len() == MEMORY {
            self.steps.pop_front();
        }
        self.steps.push_back(Step { moved, turned, rho: 1.0 / product });
    }

    /// −H·gradient, by the two loops of algorithm 7.4.
    fn direction(&self, gradient: &[f64], guess: &impl Fn(&mut [f64])) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut alphas = Vec::with_capacity(self.steps.len());
        for step in self.steps.iter().rev() {
            let alpha = step.rho * dot(&step.moved, &q);
            add(&mut q, -alpha, &step.turned);
            alphas.push(alpha);
        }
        guess(&mut q);
        for (step, alpha) in self.steps.iter().zip(alphas.iter().rev()) {
            let beta = step.rho * dot(&step.turned, &q);
            add(&mut q, alpha - beta, &step.moved);
        }
        q
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// a += factor · b.
fn add(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_minimum_of_a_bowl_is_found_whatever_its_axes_and_start(
            axes in prop::collection::vec((-6f64..6.0, -100f64..100.0, -100f64..100.0, -2f64..2.0), 1..30),
        ) {
            // ½ Σ eˡ (x − centre)²: conditions up to e¹², which the guess knows within e².
            let bowl = |x: &[f64], gradient: &mut [f64]| {
                axes.iter().zip(x).zip(gradient).map(|((&(log, centre, ..), x), g)| {
                    *g = log.exp() * (x - centre);
                    0.5 * *g * (x - centre)
                }).sum()
            };
            let guess = |x: &mut [f64]| x.iter_mut().zip(&axes).for_each(|(x, axis)| *x *= (axis.3 - axis.0).exp());
            let minimum = minimise(bowl, guess, axes.iter().map(|axis| axis.2).collect(), 1e-7);
            prop_assert!(minimum.converged);
            for (x, (_, centre, ..)) in minimum.at.iter().zip(&axes) {
                // The gradient over the least curvature, e⁻⁶.
                prop_assert!((x - centre).abs() <= 1e-7 * 404.0, "{x} is not {centre}");
            }
        }
    }

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        // Rosenbrock, 1960: not convex, and the usual trial of a line search.
        let valley = |x: &[f64], g: &mut [f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (g[0], g[1]) = (-2.0 * a - 400.0 * x[0] * b, 200.0 * b);
            a * a + 100.0 * b * b
        };
        let minimum = minimise(valley, |_| (), vec![-1.2, 1.0], 1e-8);
        assert!(minimum.converged);
        assert!(minimum.at.iter().all(|x| (x - 1.0).abs() < 1e-6), "{:?}", minimum.at);
    }

    #[test]
    fn a_search_that_starts_at_the_minimum_stays() {
        let minimum = minimise(
            |x, g| {
                g[0] = 2.0 * x[0];
                x[0] * x[0]
            },
            |_| (),
            vec![0.0],
            1e-9,
        );
        assert!(minimum.converged && minimum.at == [0.0]);
    }

    #[test]
    fn a_search_without_an_end_says_so() {
        let mut calls = 0;
        let minimum = minimise(
            |x, g| {
                calls += 1;
                g[0] = -1.0;
                -x[0]
            },
            |_| (),
            vec![0.0],
            1e-9,
        );
        assert!(!minimum.converged && calls <= TRIALS + 1);
    }
}

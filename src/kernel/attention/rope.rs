//! The rotation of queries and keys by their positions (RoPE; Su et al., 2021).

use crate::kernel::simd::Simd;

/// The rotation of pairs of columns, i and i + dim / 2 of a head, by angles that grow with the position.
pub struct Rope {
    /// Half of a head's columns.
    half: usize,
    /// For each position the cosines of the angles, then their sines. [positions, 2 · half]
    table: Vec<f32>,
}

impl Rope {
    /// Makes the rotation of heads of `dim` columns, an even number, for `positions` positions. At position 1 the pair
    /// i is rotated by `angle(i)`.
    pub fn new(dim: usize, positions: usize, angle: impl Fn(usize) -> f64) -> Self {
        let half = dim / 2;
        let angles: Vec<f64> = (0..half).map(angle).collect();
        let mut table = Vec::with_capacity(positions * 2 * half);
        for position in 0..positions {
            let at = |angle: &f64| angle * position as f64;
            table.extend(angles.iter().map(|angle| at(angle).cos() as f32));
            table.extend(angles.iter().map(|angle| at(angle).sin() as f32));
        }
        Self { half, table }
    }

    /// True if it is for heads of `dim` columns, and has all positions of a sequence of `tokens`.
    pub(super) fn covers(&self, dim: usize, tokens: usize) -> bool {
        dim == 2 * self.half && tokens * dim <= self.table.len()
    }

    /// Rotates a head of the token at `position`.
    #[inline(always)]
    pub(super) fn rotate<S: Simd>(&self, s: S, position: usize, head: &mut [f32]) {
        let (cos, sin) = self.table[position * 2 * self.half..][..2 * self.half].split_at(self.half);
        let (a, b) = head.split_at_mut(self.half);
        let whole = self.half / S::LANES * S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            let (x, y) = (s.load(&a[at..]), s.load(&b[at..]));
            let (cos, sin) = (s.load(&cos[at..]), s.load(&sin[at..]));
            s.store(s.sub(s.mul(x, cos), s.mul(y, sin)), &mut a[at..]);
            s.store(s.add(s.mul(y, cos), s.mul(x, sin)), &mut b[at..]);
        }
        let (a, b) = (&mut a[whole..], &mut b[whole..]);
        let (x, y) = (s.load_or(a, 0.0), s.load_or(b, 0.0));
        let (cos, sin) = (s.load_or(&cos[whole..], 0.0), s.load_or(&sin[whole..], 0.0));
        s.store_first(s.sub(s.mul(x, cos), s.mul(y, sin)), a);
        s.store_first(s.add(s.mul(y, cos), s.mul(x, sin)), b);
    }
}

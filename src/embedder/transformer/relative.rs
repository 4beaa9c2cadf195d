//! MPNet's relative positions: a learned number for each head and distance, which is added to the score of two tokens.
//!
//! Distances share numbers in buckets, as in T5 (Raffel et al., 2020). There are 16 buckets for keys at or before the
//! query, and 16 for keys after it. On each side 8 buckets are for the distances 0 to 7, and 8 for greater ones: two
//! for each doubling, and the last for 91 and more.

use crate::model::RELATIVE_BUCKETS;

/// Returns the row of the table for a distance: the key's position minus the query's.
pub fn bucket(distance: isize) -> usize {
    const HALF: usize = RELATIVE_BUCKETS / 2;
    const EXACT: usize = HALF / 2;
    let (n, after) = (distance.unsigned_abs(), if distance > 0 { HALF } else { 0 });
    // 8 + ⌊8 · log(n / 8) / log(128 / 8)⌋ = 2 + ⌊log2 n²⌋, computed in integers and so without rounding.
    let within = if n < EXACT { n } else { ((n * n).ilog2() as usize + 2).min(HALF - 1) };
    after + within
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes `MPNetEncoder.relative_position_bucket` of transformers.
    fn plain(distance: isize) -> usize {
        let (max_distance, num_buckets) = (128.0f64, 16);
        let max_exact = num_buckets / 2;
        let n = distance.unsigned_abs();
        let side = if distance > 0 { num_buckets } else { 0 };
        if n < max_exact {
            return side + n;
        }
        let part = (n as f64 / max_exact as f64).log2() / (max_distance / max_exact as f64).log2();
        side + (max_exact + (part * (num_buckets - max_exact) as f64) as usize).min(num_buckets - 1)
    }

    #[test]
    fn every_distance_has_the_bucket_of_the_logarithm() {
        for distance in -9000..=9000 {
            assert_eq!(bucket(distance), plain(distance), "distance {distance}");
        }
        assert_eq!([-7, -8, -11, -12, -15, -16, -90, -91, -9000].map(bucket), [7, 8, 8, 9, 9, 10, 14, 15, 15]);
        assert_eq!([0, 1, 7, 8, 91].map(bucket), [0, 17, 23, 24, 31]);
    }
}

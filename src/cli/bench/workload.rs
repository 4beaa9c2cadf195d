//! Texts and vectors to measure with, the same on every machine. `cognate bench` and `benches/` use them. Each bench
//! includes this file, so it uses nothing of this crate. The texts are for speed, not for measures of quality.

use std::sync::Arc;

use serde_json::Value;

/// The glosses of WordNet, as in the demo.
const DICTIONARY: &str = include_str!("../../../examples/reverse-dictionary/words.jsonl");

/// Returns words with their glosses.
pub fn dictionary() -> Vec<(String, String)> {
    let entry = |line| {
        let entry: Value = serde_json::from_str(line).expect("the bundled dictionary is JSON lines");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&entry["metadata"]["word"]), text(&entry["text"]))
    };
    DICTIONARY.lines().map(entry).collect()
}

/// Returns two named workloads: short texts, and passages of ten glosses or about 120 tokens.
pub fn short_and_long() -> [(&'static str, Vec<String>); 2] {
    let glosses: Vec<String> = dictionary().into_iter().map(|(_, gloss)| gloss).collect();
    let long = glosses.chunks_exact(10).take(256).map(|ten| ten.join("; ")).collect();
    [("short", glosses.into_iter().take(2048).collect()), ("long", long)]
}

const SUBJECTS: &str = "The parcel;My order;The invoice;The new release;Your support team;The mobile app;The refund;\
    The replacement part;My subscription;The delivery;The battery;The login page";
const EVENTS: &str = "never arrived;works perfectly now;was charged twice;crashes whenever I open the settings;\
    is better than I had expected;has been waiting for two weeks;came with a broken screen;\
    answered within minutes and was very kind;shows the wrong amount;was easy to set up;\
    stopped working after the update;cannot be reached from abroad;is exactly what we needed;\
    lists an address that I have changed;keeps logging me out;was delivered to a neighbour";
const CLOSINGS: &str = "Please help.;Thank you!;I want my money back.;How do I change that?;\
    This is the third time I write.;Great job, keep it up.;When will it be fixed?;I am very disappointed.;\
    No hurry, just letting you know.;Can somebody call me?;I would recommend you to anyone.;Otherwise I will cancel.";

/// Returns `n` short support tickets. Their parts repeat, but no two tickets are equal, because each has its own
/// number.
pub fn tickets(n: usize) -> Vec<String> {
    let [subjects, events, closings] = [SUBJECTS, EVENTS, CLOSINGS].map(|parts| parts.split(';').collect::<Vec<_>>());
    let ticket = |i: usize| {
        // Strides without a common factor visit all combinations.
        let (subject, event, closing) =
            (subjects[i % 12], events[(i / 12 + 5 * i) % 16], closings[(i / 192 + 7 * i) % 12]);
        format!("{subject} {event}. {closing} (order {})", 10_000 + i)
    };
    (0..n).map(ticket).collect()
}

/// The number of directions that themes lie around.
const TOPICS: usize = 50;
/// The number of directions that texts are mixtures of.
const THEMES: usize = 300;
/// The number of themes of a text, each with a weight.
const PARTS: usize = 5;
/// The length of the noise that a theme adds to its topic, and that a text adds to its themes.
const THEME_NOISE: f32 = 1.0;
const TEXT_NOISE: f32 = 0.6;

/// A pseudo-random number generator: the linear congruential generator of Knuth's MMIX.
pub struct Random(u64);

impl Random {
    /// Starts a generator. Similar seeds give different numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns a whole number below `n`, which is at least 1 and fits in 32 bits.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 32).wrapping_mul(n as u64) >> 32) as usize
    }

    /// Returns a number that is uniform in -0.5 to 0.5.
    pub fn noise(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    /// Returns a unit vector around a centre. The added noise has about this length in any number of dimensions.
    fn near(&mut self, centre: &[f32], length: f32) -> Arc<[f32]> {
        // A component that is uniform in -0.5 to 0.5 has a variance of 1/12.
        let scale = length * (12.0 / centre.len() as f32).sqrt();
        let mut vector: Vec<f32> = centre.iter().map(|&x| x + scale * self.noise()).collect();
        normalise(&mut vector);
        Arc::from(vector)
    }
}

/// Returns `n` unit vectors, made without a model.
///
/// A text is about several things. Its vector is a mixture of themes, which lie around topics, and some noise. So
/// groups overlap, like the groups of real texts. Separate groups would make the search too easy: a walk that ends in
/// the right group finds all neighbours. Real texts are still harder: vectors of MiniLM need two to three times the
/// `ef`.
pub fn vectors(n: usize, dimensions: usize, random: &mut Random) -> Vec<Arc<[f32]>> {
    let nowhere = vec![0.0; dimensions];
    let topics: Vec<_> = (0..TOPICS).map(|_| random.near(&nowhere, 1.0)).collect();
    let themes: Vec<_> = (0..THEMES).map(|theme| random.near(&topics[theme % TOPICS], THEME_NOISE)).collect();
    let mut mixture = nowhere;
    let text = |_| {
        mixture.fill(0.0);
        for _ in 0..PARTS {
            let (theme, weight) = (&themes[random.below(THEMES)], random.noise() + 0.5);
            mixture.iter_mut().zip(theme.iter()).for_each(|(sum, &x)| *sum += weight * x);
        }
        // If the themes cancel out, only the noise is left.
        normalise(&mut mixture);
        random.near(&mixture, TEXT_NOISE)
    };
    (0..n).map(text).collect()
}

/// Scales a vector to length 1. A vector of zeros stays as it is.
fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32;
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn the_same_seed_draws_the_same_unit_vectors_and_another_draws_others() {
        let drawn = |seed| vectors(100, 17, &mut Random::new(seed));
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert_eq!(drawn(3).len(), 100);
        assert!(drawn(3).iter().all(|vector| vector.len() == 17 && (dot(vector, vector) - 1.0).abs() < 1e-6));
    }

    #[test]
    fn texts_have_neighbours_that_are_much_nearer_than_others_in_any_number_of_dimensions() {
        for dimensions in [16, 384, 1_024] {
            let drawn = vectors(2_000, dimensions, &mut Random::new(7));
            let (mut nearest, mut all) = (0.0, 0.0);
            for query in &drawn[..100] {
                let cosines = drawn[100..].iter().map(|vector| dot(query, vector));
                nearest += cosines.clone().fold(-1.0, f32::max) / 100.0;
                all += cosines.sum::<f32>() / 1_900.0 / 100.0;
            }
            assert!(all.abs() < 0.1 && (0.4..0.95).contains(&nearest), "{dimensions}: {all} {nearest}");
        }
    }

    #[test]
    fn numbers_below_a_bound_are_drawn_about_equally_often() {
        let mut random = Random::new(5);
        let mut counts = [0; 7];
        (0..7_000).for_each(|_| counts[random.below(7)] += 1);
        assert!(counts.iter().all(|&count| (850..1_150).contains(&count)), "{counts:?}");
        assert_eq!(random.below(1), 0);
    }
}

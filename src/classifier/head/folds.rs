//! Divides examples into folds for cross-validation.
//!
//! All examples of one group, for example of the same text, are in one fold. Otherwise a head would be tested on a text
//! that it was trained on. The numbers of a label's groups in two folds differ by at most one.

/// Deals examples into `k` folds, and returns the fold of each example, below `k`.
///
/// `labels` and `groups` are `[examples]`, labels below `n_labels`, groups any numbers. A group with several labels
/// counts for its most frequent label, or for the first of them. The same arguments give the same folds.
pub fn deal(labels: &[usize], groups: &[usize], n_labels: usize, k: usize, seed: u64) -> Vec<usize> {
    let groups = Groups::new(labels, groups, n_labels);
    let mut random = SplitMix64(seed);
    let mut fold_of = vec![0; groups.label_of.len()];
    // The next label continues at the next fold. Otherwise the first folds would get the remainder of every label.
    let mut next = 0;
    for mut members in groups.of_labels(n_labels) {
        random.shuffle(&mut members);
        for group in members {
            fold_of[group] = next;
            next = (next + 1) % k;
        }
    }
    groups.of_example.iter().map(|&group| fold_of[group]).collect()
}

/// Counts the groups of each label: `[n_labels]`. The arguments are as for [`deal`].
pub fn sizes(labels: &[usize], groups: &[usize], n_labels: usize) -> Vec<usize> {
    Groups::new(labels, groups, n_labels).of_labels(n_labels).iter().map(Vec::len).collect()
}

/// Groups, numbered by first appearance.
struct Groups {
    /// `[examples]`
    of_example: Vec<usize>,
    /// `[groups]`
    label_of: Vec<usize>,
}

impl Groups {
    fn new(labels: &[usize], groups: &[usize], n_labels: usize) -> Self {
        let mut numbers = std::collections::HashMap::new();
        let mut counts: Vec<Vec<usize>> = Vec::new();
        let mut of_example = Vec::with_capacity(groups.len());
        for (&label, group) in labels.iter().zip(groups) {
            let number = *numbers.entry(group).or_insert(counts.len());
            if number == counts.len() {
                counts.push(vec![0; n_labels]);
            }
            counts[number][label] += 1;
            of_example.push(number);
        }
        Self { of_example, label_of: counts.iter().map(|counts| most(counts)).collect() }
    }

    /// Returns the groups of each label.
    fn of_labels(&self, n_labels: usize) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); n_labels];
        for (group, &label) in self.label_of.iter().enumerate() {
            members[label].push(group);
        }
        members
    }
}

/// Returns the position of the largest count, the first of several.
fn most(counts: &[usize]) -> usize {
    let largest = counts.iter().max();
    counts.iter().position(|count| Some(count) == largest).unwrap_or(0)
}

/// A pseudo-random number generator with 64 bits of state (Steele, Lea and Flood, Fast splittable pseudorandom number
/// generators, 2014). It is good enough to deal examples. A seed gives the same numbers on every machine, in every
/// version.
pub(super) struct SplitMix64(pub u64);

impl SplitMix64 {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `n`, which is not 0: the high half of a product (Lemire, 2019). The rejection step is
    /// left out, so the bias is n / 2⁶⁴.
    fn below(&mut self, n: usize) -> usize {
        let product = u128::from(self.next()) * n as u128;
        usize::try_from(product >> 64).expect("below a usize")
    }

    /// Shuffles a list. All orders have the same probability (Fisher and Yates; Knuth, The Art of Computer Programming,
    /// volume 2, algorithm P).
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Examples as (label, group). Some groups have several labels.
    fn examples() -> impl Strategy<Value = Vec<(usize, usize)>> {
        prop::collection::vec((0usize..4, 0usize..40), 1..120)
    }

    proptest! {
        #[test]
        fn every_example_is_in_one_fold_and_a_group_in_the_same(
            examples in examples(), k in 2usize..7, seed: u64,
        ) {
            let (labels, groups): (Vec<_>, Vec<_>) = examples.iter().copied().unzip();
            let folds = deal(&labels, &groups, 4, k, seed);
            prop_assert_eq!(folds.len(), examples.len());
            prop_assert!(folds.iter().all(|&fold| fold < k));
            for (a, fold_a) in groups.iter().zip(&folds) {
                for (b, fold_b) in groups.iter().zip(&folds) {
                    prop_assert!(a != b || fold_a == fold_b, "group {a} is in folds {fold_a} and {fold_b}");
                }
            }
            prop_assert_eq!(folds, deal(&labels, &groups, 4, k, seed));
        }

        #[test]
        fn every_fold_has_its_share_of_every_label(
            labels in prop::collection::vec(0usize..4, 1..120), k in 2usize..7, seed: u64,
        ) {
            let groups: Vec<usize> = (0..labels.len()).collect();
            let folds = deal(&labels, &groups, 4, k, seed);
            let sizes = sizes(&labels, &groups, 4);
            for (label, size) in sizes.into_iter().enumerate() {
                for fold in 0..k {
                    let count = labels.iter().zip(&folds).filter(|&pair| pair == (&label, &fold)).count();
                    let share = size / k;
                    prop_assert!(count == share || count == share + 1, "{count} of label {label} in fold {fold}");
                }
            }
            for fold in 0..k {
                let count = folds.iter().filter(|&&other| other == fold).count();
                prop_assert!(count == labels.len() / k || count == labels.len() / k + 1);
            }
        }
    }

    #[test]
    fn a_seed_decides_and_another_deals_differently() {
        let (labels, groups): (Vec<usize>, Vec<usize>) = (0..100).map(|i| (i % 2, i)).unzip();
        assert_eq!(deal(&labels, &groups, 2, 5, 7), deal(&labels, &groups, 2, 5, 7));
        assert_ne!(deal(&labels, &groups, 2, 5, 7), deal(&labels, &groups, 2, 5, 8));
    }

    #[test]
    fn a_group_counts_for_its_most_frequent_label() {
        assert_eq!(sizes(&[0, 1, 1, 0, 1], &[9, 9, 9, 4, 4], 2), [1, 1]);
    }

    #[test]
    fn numbers_of_a_seed_are_those_of_the_authors_implementation() {
        // From prng.di.unimi.it/splitmix64.c with the state 1234567.
        let mut random = SplitMix64(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut random = SplitMix64(1);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..6_000 {
            let mut items = [0, 1, 2];
            random.shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        // 1,000 of each are expected; the standard deviation is 29.
        assert!(counts.len() == 6 && counts.values().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}

//! Tests of a whole head, and helpers that the tests of its parts share.

use super::*;

/// Returns unit vectors [n, dimensions] around one centre for each label, and their labels in turn. With `noise` 0 the
/// vectors are the centres.
pub(super) fn cloud(n: usize, dimensions: usize, n_labels: usize, noise: f64, seed: u64) -> (Vec<f32>, Vec<usize>) {
    let mut random = folds::SplitMix64(seed);
    let mut uniform = move || (random.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    let centres: Vec<f64> = (0..n_labels * dimensions).map(|_| uniform()).collect();
    let labels: Vec<usize> = (0..n).map(|i| i % n_labels).collect();
    let mut vectors = Vec::new();
    for label in &labels {
        let centre = &centres[label * dimensions..][..dimensions];
        let vector: Vec<f64> = centre.iter().map(|x| x + noise * uniform()).collect();
        let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        vectors.extend(vector.iter().map(|x| (x / length) as f32));
    }
    (vectors, labels)
}

/// Returns the names `label-0`, `label-1` and so on.
pub(super) fn names(n_labels: usize) -> Vec<String> {
    (0..n_labels).map(|label| format!("label-{label}")).collect()
}

pub(super) const TRAINING: Training =
    Training { l2: 0.001, class_weights: ClassWeights::Equal, folds: 5, accuracy: 0.925, seed: 7 };

pub(super) fn label(name: &str, bias: f32, weights: Vec<f32>) -> Label {
    Label { name: name.to_owned(), examples: 20, bias, weights }
}

pub(super) fn made_for() -> MadeFor {
    MadeFor { model: "someone/model".to_owned(), fingerprint: "0123456789abcdef0123456789abcdef".to_owned() }
}

#[test]
fn a_trained_head_answers_as_its_fit_and_records_its_training() {
    let (vectors, labels) = cloud(60, 8, 3, 0.8, 1);
    let examples = examples::Examples::new(&vectors, 8, &labels, 3);
    let groups: Vec<usize> = (0..60).collect();
    let options = validate::TrainOptions { seed: 5, ..Default::default() };
    let trained = validate::train(&examples, &groups, &names(3), &options).unwrap();
    let head = Head::trained(made_for(), &names(3), &trained).unwrap();
    assert_eq!(head.dimensions(), 8);
    assert_eq!(head.made_for(), &made_for());
    assert_eq!(head.labels().iter().map(|label| label.name.clone()).collect::<Vec<_>>(), names(3));
    assert!(head.labels().iter().all(|label| label.examples == 20));
    let training = head.training();
    assert_eq!((training.seed, training.folds, training.accuracy), (5, 5, trained.confusion.accuracy()));
    for vector in vectors.chunks_exact(8) {
        for (logit, exact) in head.logits(vector).into_iter().zip(trained.fit.logits(vector)) {
            assert!((f64::from(logit) - exact).abs() <= 1e-5 * (1.0 + exact.abs()), "{logit} is not {exact}");
        }
    }
}

#[test]
fn names_that_are_empty_or_repeated_make_no_head() {
    let (vectors, labels) = cloud(12, 4, 2, 0.5, 1);
    let examples = examples::Examples::new(&vectors, 4, &labels, 2);
    let groups: Vec<usize> = (0..12).collect();
    let trained = validate::train(&examples, &groups, &names(2), &Default::default()).unwrap();
    let message =
        |names: [&str; 2]| Head::trained(made_for(), &names.map(str::to_owned), &trained).unwrap_err().to_string();
    assert_eq!(message(["", "b"]), "labels[0].name is empty, and must not be");
    assert_eq!(message(["b", "b"]), r#"labels[0].name and labels[1].name are both "b", and names must differ"#);
}

#[test]
fn a_number_that_is_not_finite_makes_no_head() {
    let message = |bias: f32, weight: f32| {
        let labels = vec![label("a", 0.0, vec![1.0, 0.0]), label("b", bias, vec![0.0, weight])];
        Head::new(made_for(), TRAINING, labels).unwrap_err().to_string()
    };
    assert_eq!(message(f32::NEG_INFINITY, 1.0), "labels[1].bias is -inf, and must be finite");
    assert_eq!(message(0.0, f32::NAN), "labels[1].weights[1] is NaN, and must be finite");
}

#[test]
#[should_panic(expected = "the embedding has the head's dimensions")]
fn a_vector_of_other_dimensions_panics() {
    let labels = vec![label("a", 0.0, vec![1.0, 0.0]), label("b", 0.0, vec![0.0, 1.0])];
    Head::new(made_for(), TRAINING, labels).unwrap().logits(&[1.0]);
}

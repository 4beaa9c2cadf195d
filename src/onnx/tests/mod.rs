//! Both runtimes on the same graphs: those of `tests/fixtures`, and tiny ones that are written here.
//!
//! Each check is a function that takes a runtime. rten always runs them. ONNX Runtime runs them if it is installed:
//! `cargo test onnx -- --include-ignored`.

mod fixtures;
mod hostile;
mod wire;
mod written;

use std::path::{Path, PathBuf};

use super::error::RunError;
use super::*;
use fixtures::*;
use hostile::*;
use written::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn rten() -> Runtime {
    Runtime::find(&Options { runtime: Choice::Rten, threads: 2, ..Options::default() }).unwrap()
}

fn onnxruntime() -> Runtime {
    let options = Options { runtime: Choice::OnnxRuntime, threads: 2, ..Options::default() };
    Runtime::find(&options).unwrap_or_else(|error| panic!("{error}"))
}

fn load(runtime: &Runtime, file: &str) -> Graph {
    Graph::load(runtime, GraphSource::File(&fixtures().join(file)), Wanted::Logits)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn run(graph: &mut Graph, batch: &[Vec<u32>]) -> Result<Output, RunError> {
    let batch: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
    graph.run(&batch, 0)
}

/// Makes texts of these lengths for the vocabulary of the fixtures.
fn batch(lengths: &[usize]) -> Vec<Vec<u32>> {
    let token = |text: usize, position: usize| (5 + (text * 31 + position * 17) % 190) as u32;
    let text = |(text, &length): (usize, &usize)| (0..length).map(|position| token(text, position)).collect();
    lengths.iter().enumerate().map(text).collect()
}

fn assert_near(one: &[f32], other: &[f32], tolerance: f32) {
    assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().zip(other) {
        assert!((a - b).abs() <= tolerance, "{a} and {b}: {one:?} and {other:?}");
    }
}

#[test]
fn a_graph_can_move_to_another_thread_and_be_shared() {
    fn check<T: Send + Sync>() {}
    check::<Graph>();
    check::<Runtime>();
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn onnxruntime_and_rten_agree() {
    let (rten, onnxruntime) = (rten(), onnxruntime());
    assert!(onnxruntime.name().starts_with("onnxruntime 1."), "{}", onnxruntime.name());
    for file in ["bert/onnx/model.onnx", "distilbert/model.onnx", "int32/model.onnx", "fixed/model.onnx"] {
        let texts = batch(&[3, 16, 1, 9, 2, 16, 5, 1, 4]);
        let one = run(&mut load(&rten, file), &texts).unwrap();
        let other = run(&mut load(&onnxruntime, file), &texts).unwrap();
        assert_eq!(one.shape, other.shape);
        assert_near(&one.values, &other.values, 1e-4);
    }
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn onnxruntime_is_loaded_once_and_every_level_answers_alike() {
    let library = onnxruntime().library().unwrap().to_owned();
    let texts = batch(&[3, 16, 1]);
    let expected = run(&mut load(&rten(), "bert/onnx/model.onnx"), &texts).unwrap();
    for optimization in [Optimization::None, Optimization::Basic, Optimization::Extended, Optimization::All] {
        // Its directory leads to the same library.
        let directory = library.parent().map(Path::to_owned);
        let runtime = Runtime::find(&Options { library: directory, optimization, ..Options::default() }).unwrap();
        assert_eq!(runtime.library(), Some(library.as_path()));
        let output = run(&mut load(&runtime, "bert/onnx/model.onnx"), &texts).unwrap();
        assert_near(&output.values, &expected.values, 1e-4);
    }
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn onnxruntime_in_another_file_is_refused_once_one_is_loaded() {
    let library = onnxruntime().library().unwrap().to_owned();
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join(library.file_name().unwrap());
    std::fs::copy(&library, &copy).unwrap();
    let options = Options { library: Some(copy), ..Options::default() };
    let error = Runtime::find(&options).map(drop).unwrap_err().to_string();
    assert!(error.contains("can load only one library"), "{error}");
}

#[test]
fn a_named_library_that_cannot_be_used_is_an_error_even_if_another_runtime_would_do() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("libonnxruntime.so");
    std::fs::write(&text, "a text").unwrap();
    for (library, expected) in [(text, "not a shared library"), (directory.path().join("no"), "no such file")] {
        let options = Options { library: Some(library), ..Options::default() };
        let error = Runtime::find(&options).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("--onnx-runtime rten"), "{error}");
    }
}

/// Makes a test for each runtime of each check.
macro_rules! on_both {
    ($($check:ident)*) => {
        mod on_rten {
            $(#[test] fn $check() { super::$check(&super::rten()); })*
        }
        mod onnxruntime_runs {
            $(#[test] #[ignore = "needs ONNX Runtime"] fn $check() { super::$check(&super::onnxruntime()); })*
        }
    };
}

on_both! {
    answers_are_the_golden_ones
    a_text_is_answered_alike_alone_and_in_any_batch
    int8_runs
    ports_and_sizes_are_told
    hostile_graphs_are_refused_with_one_line
    every_beginning_of_a_graph_is_refused
    a_damaged_graph_is_no_end
    a_run_that_fails_says_why_and_the_next_one_works
    a_batch_that_no_graph_could_read_is_an_error
    values_that_are_not_finite_are_left_to_the_caller
    token_vectors_of_texts_of_all_lengths_become_one_rectangle
    without_a_mask_no_text_sees_padding
    outputs_of_16_and_64_bits_are_read
    weights_in_a_file_beside_the_graph_are_found_also_behind_links
    probabilities_are_known_by_the_step_that_makes_them_and_never_by_their_name
    tokens_and_lengths_that_a_graph_does_not_have_are_found_before_it_serves
    an_answer_of_another_shape_than_stated_is_an_error
    only_the_wanted_output_is_computed
}

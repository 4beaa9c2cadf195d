//! Graphs that are damaged or wrong, and inputs that do not fit a graph.

use super::super::error::RunError;
use super::*;

pub fn hostile_graphs_are_refused_with_one_line(runtime: &Runtime) {
    let reasons = [
        ("truncated", "cannot load"),
        ("not_onnx", "cannot load"),
        ("unknown_op", "Frobnicate"),
        ("odd_input", "pixel_values float32 [batch, 3, 4, 4]"),
        ("no_ids", "inputs_embeds float32 [batch, sequence, 8]"),
        ("wrong_output", "its outputs: last_hidden_state float32 [batch, "),
        ("nothing", "cannot be read"),
    ];
    for (directory, expected) in reasons {
        let file = fixtures().join("hostile").join(directory).join("model.onnx");
        let error = Graph::load(runtime, GraphSource::File(&file), Wanted::Logits).map(drop).unwrap_err().to_string();
        println!("{error}");
        assert!(error.contains(expected) && error.contains(directory) && error.lines().count() == 1, "{error}");
    }
}

pub fn every_beginning_of_a_graph_is_refused(runtime: &Runtime) {
    let whole = std::fs::read(fixtures().join("hostile/nan/model.onnx")).unwrap();
    for part in 0..128 {
        let bytes = &whole[..whole.len() * part / 128];
        assert!(Graph::load(runtime, GraphSource::Memory(bytes), Wanted::Logits).is_err(), "{part}/128");
    }
    assert!(Graph::load(runtime, GraphSource::Memory(&whole), Wanted::Logits).is_ok());
}

/// A graph with random bytes in it gives an error or a graph, and never ends the process.
pub fn a_damaged_graph_is_no_end(runtime: &Runtime) {
    let whole = std::fs::read(fixtures().join("hostile/nan/model.onnx")).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        // The structure is at both ends, and weights between them.
        for _ in 0..4 {
            let place = random.usize(..3_000);
            let place = if random.bool() { place } else { bytes.len() - 1 - place };
            bytes[place] = random.u8(..);
        }
        if let Ok(mut graph) = Graph::load(runtime, GraphSource::Memory(&bytes), Wanted::Logits) {
            let _ = run(&mut graph, &batch(&[3, 1]));
        }
    }
}

pub fn a_run_that_fails_says_why_and_the_next_one_works(runtime: &Runtime) {
    let mut graph = load(runtime, "hostile/vocabulary/model.onnx");
    let error = run(&mut graph, &[vec![2, 199, 3]]).unwrap_err().to_string();
    println!("{error}");
    assert!(error.starts_with("the graph failed: ") && error.lines().count() == 1, "{error}");
    let output = run(&mut graph, &[vec![2, 5, 3]]).unwrap();
    assert_eq!(output.shape, [1, 3]);
}

pub fn a_batch_that_no_graph_could_read_is_an_error(runtime: &Runtime) {
    let mut graph = load(runtime, "fixed/model.onnx");
    let error = run(&mut graph, &batch(&[3, 17])).unwrap_err();
    assert!(matches!(error, RunError::TooLong { text: 1, tokens: 17, limit: 16 }), "{error}");
    assert!(matches!(run(&mut graph, &batch(&[3, 0])).unwrap_err(), RunError::Empty { text: 1 }));
    assert!(matches!(run(&mut graph, &[vec![u32::MAX]]).unwrap_err(), RunError::Token { token: u32::MAX }));
    assert_eq!(run(&mut graph, &[]).unwrap(), Output { values: vec![], shape: vec![0] });
}

pub fn values_that_are_not_finite_are_left_to_the_caller(runtime: &Runtime) {
    let output = run(&mut load(runtime, "hostile/nan/model.onnx"), &batch(&[4])).unwrap();
    assert!(output.values.iter().all(|value| value.is_nan()));
}

pub fn tokens_and_lengths_that_a_graph_does_not_have_are_found_before_it_serves(runtime: &Runtime) {
    let mut graph = load(runtime, "hostile/vocabulary/model.onnx");
    assert!(graph.probe(198, 64, 0).is_ok());
    let error = graph.probe(199, 64, 0).unwrap_err();
    assert!(matches!(error, ProbeError::Token { tokens: 200, last: 199, .. }), "{error}");
    let mut graph = load(runtime, "bert/onnx/model.onnx");
    assert!(graph.probe(199, 64, 0).is_ok());
    let error = graph.probe(199, 66, 0).unwrap_err();
    assert!(matches!(error, ProbeError::Length { tokens: 66, .. }), "{error}");
}

//! Tiny graphs that are written here, for properties that no fixture has.

use super::super::error::RunError;
use super::wire::Value::{Int, Ints};
use super::wire::{Attribute, Elem, GraphBytes};
use super::*;

/// Makes a graph that looks up a row for each token: 2 numbers, the first of which is the token.
fn table() -> GraphBytes {
    let values: Vec<f32> = (0..10).flat_map(|token| [token as f32, 0.5]).collect();
    GraphBytes::default()
        .constant("table", &[10, 2], &values)
        .input("input_ids", Elem::Int64, &["batch", "sequence"])
        .node("Gather", &["table", "input_ids"], "rows", &[])
}

fn load_bytes(runtime: &Runtime, bytes: &[u8], wanted: Wanted) -> Graph {
    Graph::load(runtime, GraphSource::Memory(bytes), wanted).unwrap_or_else(|error| panic!("{error}"))
}

pub fn token_vectors_of_texts_of_all_lengths_become_one_rectangle(runtime: &Runtime) {
    let graph = table().node("Identity", &["rows"], "last_hidden_state", &[]);
    let bytes = graph.output("last_hidden_state", Elem::Float, &["batch", "sequence", "2"]).model();
    let mut graph = load_bytes(runtime, &bytes, Wanted::Hidden);
    assert_eq!((graph.width(), graph.sequence()), (Some(2), None));
    let output = run(&mut graph, &[vec![7], vec![1, 2], vec![3, 4]]).unwrap();
    assert_eq!(output.shape, [3, 2, 2]);
    assert_eq!(output.values, [7.0, 0.5, 0.0, 0.0, 1.0, 0.5, 2.0, 0.5, 3.0, 0.5, 4.0, 0.5]);
}

pub fn without_a_mask_no_text_sees_padding(runtime: &Runtime) {
    let graph =
        table().node("ReduceMean", &["rows"], "mean", &[Attribute("axes", Ints(&[1])), Attribute("keepdims", Int(0))]);
    let graph = graph.node("Identity", &["mean"], "sentence_embedding", &[]);
    let bytes = graph.output("sentence_embedding", Elem::Float, &["batch", "2"]).model();
    let mut graph = load_bytes(runtime, &bytes, Wanted::Hidden);
    let output = run(&mut graph, &[vec![8], vec![2, 4], vec![6]]).unwrap();
    assert_eq!(output.shape, [3, 2]);
    assert_eq!(output.values, [8.0, 0.5, 3.0, 0.5, 6.0, 0.5]);
}

pub fn outputs_of_16_and_64_bits_are_read(runtime: &Runtime) {
    for elem in [Elem::Float16, Elem::Float64] {
        let graph = table().node("Cast", &["rows"], "token_embeddings", &[Attribute("to", Int(elem as u64))]);
        let bytes = graph.output("token_embeddings", elem, &["batch", "sequence", "2"]).model();
        let mut graph = load_bytes(runtime, &bytes, Wanted::Hidden);
        assert_eq!(run(&mut graph, &[vec![7]]).unwrap().values, [7.0, 0.5]);
    }
}

/// Makes the same graph with its table in a file.
fn table_beside(file: &str) -> Vec<u8> {
    let graph = GraphBytes::default()
        .external("table", &[10, 2], file)
        .input("input_ids", Elem::Int64, &["batch", "sequence"])
        .node("Gather", &["table", "input_ids"], "last_hidden_state", &[]);
    graph.output("last_hidden_state", Elem::Float, &["batch", "sequence", "2"]).model()
}

fn write_table(path: &Path, scale: f32) {
    let values = (0..10).flat_map(|token| [token as f32 * scale, 0.5]);
    std::fs::write(path, values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
}

pub fn weights_in_a_file_beside_the_graph_are_found_also_behind_links(runtime: &Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, blobs) = (folder.path().join("snapshots/a/onnx"), folder.path().join("blobs"));
    for folder in [&snapshot, &blobs] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(blobs.join("1"), table_beside("model.onnx_data")).unwrap();
    write_table(&blobs.join("2"), 3.0);
    for (link, blob) in [("model.onnx", "1"), ("model.onnx_data", "2")] {
        std::os::unix::fs::symlink(format!("../../../blobs/{blob}"), snapshot.join(link)).unwrap();
    }
    std::fs::copy(snapshot.join("model.onnx"), folder.path().join("model.onnx")).unwrap();
    write_table(&folder.path().join("model.onnx_data"), 3.0);
    for graph in [snapshot.join("model.onnx"), folder.path().join("model.onnx")] {
        assert_eq!(external_data(&graph), Ok(vec!["model.onnx_data".to_owned()]));
        let mut graph = Graph::load(runtime, GraphSource::File(&graph), Wanted::Hidden).unwrap();
        assert_eq!(run(&mut graph, &[vec![7]]).unwrap().values, [21.0, 0.5]);
    }
    std::fs::remove_file(folder.path().join("model.onnx_data")).unwrap();
    let error = Graph::load(runtime, GraphSource::File(&folder.path().join("model.onnx")), Wanted::Hidden);
    let error = error.map(drop).unwrap_err().to_string();
    assert!(error.contains("model.onnx_data, which cannot be read: No such file"), "{error}");
}

/// Makes a graph that applies steps to the maximum of a text's rows.
fn scores(steps: &[(&'static str, &[&str], &str)], output: &str) -> Vec<u8> {
    let axes = || [Attribute("axes", Ints(&[1])), Attribute("keepdims", Int(0))];
    let graph = table().node("ReduceMax", &["rows"], "z", &axes());
    let graph = steps.iter().fold(graph, |graph, (operator, inputs, output)| graph.node(operator, inputs, output, &[]));
    graph.output(output, Elem::Float, &["batch", "2"]).model()
}

pub fn probabilities_are_known_by_the_step_that_makes_them_and_never_by_their_name(runtime: &Runtime) {
    for (bytes, scale) in [
        (scores(&[("Softmax", &["z"], "logits")], "logits"), Scale::Softmax),
        (scores(&[("Sigmoid", &["z"], "s"), ("Identity", &["s"], "probabilities")], "probabilities"), Scale::Sigmoid),
        (scores(&[("Identity", &["z"], "logits")], "logits"), Scale::Scores),
    ] {
        assert_eq!(load_bytes(runtime, &bytes, Wanted::Logits).scale(), scale);
    }
    let called_so = scores(&[("Abs", &["z"], "probabilities")], "probabilities");
    let error =
        Graph::load(runtime, GraphSource::Memory(&called_so), Wanted::Logits).map(drop).unwrap_err().to_string();
    assert!(error.contains("its output probabilities float32 [batch, 2] is named as probabilities"), "{error}");
    assert!(error.contains("Abs"), "{error}");
}

pub fn an_answer_of_another_shape_than_stated_is_an_error(runtime: &Runtime) {
    let graph = table().node("Transpose", &["rows"], "last_hidden_state", &[Attribute("perm", Ints(&[1, 0, 2]))]);
    let bytes = graph.output("last_hidden_state", Elem::Float, &["batch", "sequence", "2"]).model();
    let Ok(mut graph) = Graph::load(runtime, GraphSource::Memory(&bytes), Wanted::Hidden) else {
        return eprintln!("skipped: the runtime finds the mistake when it loads the graph");
    };
    let error = run(&mut graph, &[vec![1, 2, 3]]).unwrap_err();
    assert!(matches!(error, RunError::Shape { .. }), "{error}");
}

pub fn only_the_wanted_output_is_computed(runtime: &Runtime) {
    // Computing the other output fails: the sizes 2 and 7 do not fit.
    let graph = table()
        .node("Identity", &["rows"], "last_hidden_state", &[])
        .constant("seven", &[7, 2], &[0.0; 14])
        .node("MatMul", &["rows", "seven"], "other", &[]);
    let graph = graph.output("last_hidden_state", Elem::Float, &["batch", "sequence", "2"]);
    let bytes = graph.output("other", Elem::Float, &["a", "b", "c"]).model();
    // A runtime that infers shapes may refuse the graph.
    if let Ok(mut graph) = Graph::load(runtime, GraphSource::Memory(&bytes), Wanted::Hidden) {
        assert_eq!(run(&mut graph, &[vec![7]]).unwrap().values, [7.0, 0.5]);
    } else {
        eprintln!("skipped: the runtime refuses the graph when it infers shapes");
    }
}

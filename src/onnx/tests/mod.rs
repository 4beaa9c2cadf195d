//! Both runtimes on the same graphs: those of `tests/fixtures`, and tiny ones that are written here.
//!
//! Each check is one function that takes a runtime; rten runs them always, ONNX Runtime where it is installed:
//! `cargo test onnx -- --include-ignored`.

mod wire;

use std::path::{Path, PathBuf};

use super::*;
use wire::Value::{Int, Ints};
use wire::{Attribute, Elem, GraphBytes};

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
    Graph::load(runtime, Source::File(&fixtures().join(file)), Wanted::Logits).unwrap_or_else(|error| panic!("{error}"))
}

fn run(graph: &mut Graph, batch: &[Vec<u32>]) -> Result<Output, RunError> {
    let batch: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
    graph.run(&batch, 0)
}

/// Texts of very different lengths for the vocabulary of the fixtures.
fn batch(lengths: &[usize]) -> Vec<Vec<u32>> {
    let token = |text: usize, place: usize| (5 + (text * 31 + place * 17) % 190) as u32;
    let text = |(text, &length): (usize, &usize)| (0..length).map(|place| token(text, place)).collect();
    lengths.iter().enumerate().map(text).collect()
}

fn assert_near(one: &[f32], other: &[f32], tolerance: f32) {
    assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().zip(other) {
        assert!((a - b).abs() <= tolerance, "{a} and {b}: {one:?} and {other:?}");
    }
}

/// Ids and the logits that they must give.
fn golden(model: &str) -> Vec<(Vec<u32>, Vec<f32>)> {
    let lines = std::fs::read_to_string(fixtures().join("golden.jsonl")).unwrap();
    let of_model = lines.lines().filter(|line| line.starts_with(&format!("{{\"model\": \"{model}\",")));
    of_model.map(|line| (numbers(line, "ids"), numbers(line, "logits"))).collect()
}

/// The numbers of a field of a line of JSON.
fn numbers<T: std::str::FromStr<Err: std::fmt::Debug>>(line: &str, field: &str) -> Vec<T> {
    let start = line.rfind(&format!("\"{field}\": [")).expect(field) + field.len() + 5;
    let list = &line[start..start + line[start..].find(']').unwrap()];
    list.split(", ").map(|number| number.parse().unwrap()).collect()
}

fn answers_are_the_golden_ones(runtime: &Runtime) {
    let files = [
        ("bert", "bert/onnx/model.onnx"),
        ("distilbert", "distilbert/model.onnx"),
        ("int32", "int32/model.onnx"),
        ("fixed", "fixed/model.onnx"),
    ];
    for (model, file) in files {
        let mut graph = load(runtime, file);
        let (texts, logits): (Vec<_>, Vec<_>) = golden(model).into_iter().unzip();
        assert!(texts.len() > 5, "{model}");
        let output = run(&mut graph, &texts).unwrap();
        assert_eq!(output.shape, [texts.len(), graph.width().unwrap_or(logits[0].len())]);
        assert_near(&output.values, &logits.concat(), 1e-4);
    }
}

fn a_text_is_answered_alike_alone_and_in_any_batch(runtime: &Runtime) {
    for file in ["bert/onnx/model.onnx", "distilbert/model.onnx", "int32/model.onnx", "fixed/model.onnx"] {
        let mut graph = load(runtime, file);
        let texts = batch(&[3, 16, 1, 9, 2, 16, 5, 1, 4]);
        let together = run(&mut graph, &texts).unwrap();
        for (text, row) in texts.iter().zip(together.values.chunks(together.shape[1])) {
            let alone = run(&mut graph, std::slice::from_ref(text)).unwrap();
            assert_near(row, &alone.values, 1e-4);
        }
    }
}

fn int8_runs(runtime: &Runtime) {
    let mut graph = load(runtime, "bert/onnx/model_quantized.onnx");
    for (ids, logits) in golden("bert#model_quantized.onnx") {
        let output = run(&mut graph, &[ids]).unwrap();
        assert_near(&output.values, &logits, 0.3);
    }
}

fn ports_and_sizes_are_told(runtime: &Runtime) {
    let graph = load(runtime, "fixed/model.onnx");
    assert_eq!((graph.width(), graph.sequence()), (Some(3), Some(16)));
    assert_eq!(graph.output().to_string(), "logits float32 [4, 3]");
    let graph = load(runtime, "bert/onnx/model.onnx");
    assert_eq!((graph.width(), graph.sequence()), (Some(3), None));
    let inputs: Vec<&str> = graph.inputs().iter().map(|port| port.name.as_str()).collect();
    assert_eq!(inputs, ["input_ids", "attention_mask", "token_type_ids"]);
    assert!(graph.inputs()[0].to_string().ends_with("[batch, sequence]"), "{}", graph.inputs()[0]);
}

fn hostile_graphs_are_refused_with_one_line(runtime: &Runtime) {
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
        let error = Graph::load(runtime, Source::File(&file), Wanted::Logits).map(drop).unwrap_err().to_string();
        println!("{error}");
        assert!(error.contains(expected) && error.contains(directory) && error.lines().count() == 1, "{error}");
    }
}

fn every_beginning_of_a_graph_is_refused(runtime: &Runtime) {
    let whole = std::fs::read(fixtures().join("hostile/nan/model.onnx")).unwrap();
    for part in 0..128 {
        let bytes = &whole[..whole.len() * part / 128];
        assert!(Graph::load(runtime, Source::Memory(bytes), Wanted::Logits).is_err(), "{part}/128");
    }
    assert!(Graph::load(runtime, Source::Memory(&whole), Wanted::Logits).is_ok());
}

/// A graph with random bytes in it must be an error or a graph, and never the end of the process.
fn a_damaged_graph_is_no_end(runtime: &Runtime) {
    let whole = std::fs::read(fixtures().join("hostile/nan/model.onnx")).unwrap();
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..300 {
        let mut bytes = whole.clone();
        // The structure is at both ends, and weights between them.
        for _ in 0..4 {
            let place = random(3_000);
            let place = if random(2) == 0 { place } else { bytes.len() - 1 - place };
            bytes[place] = random(256) as u8;
        }
        if let Ok(mut graph) = Graph::load(runtime, Source::Memory(&bytes), Wanted::Logits) {
            let _ = run(&mut graph, &batch(&[3, 1]));
        }
    }
}

fn a_run_that_fails_says_why_and_the_next_one_works(runtime: &Runtime) {
    let mut graph = load(runtime, "hostile/vocabulary/model.onnx");
    let error = run(&mut graph, &[vec![2, 199, 3]]).unwrap_err().to_string();
    println!("{error}");
    assert!(error.starts_with("the graph failed: ") && error.lines().count() == 1, "{error}");
    let output = run(&mut graph, &[vec![2, 5, 3]]).unwrap();
    assert_eq!(output.shape, [1, 3]);
}

fn a_batch_that_no_graph_could_read_is_an_error(runtime: &Runtime) {
    let mut graph = load(runtime, "fixed/model.onnx");
    let error = run(&mut graph, &batch(&[3, 17])).unwrap_err();
    assert!(matches!(error, RunError::TooLong { text: 1, tokens: 17, limit: 16 }), "{error}");
    assert!(matches!(run(&mut graph, &batch(&[3, 0])).unwrap_err(), RunError::Empty { text: 1 }));
    assert!(matches!(run(&mut graph, &[vec![u32::MAX]]).unwrap_err(), RunError::Token { token: u32::MAX }));
    assert_eq!(run(&mut graph, &[]).unwrap(), Output { values: vec![], shape: vec![0] });
}

fn values_that_are_not_finite_are_left_to_the_caller(runtime: &Runtime) {
    let output = run(&mut load(runtime, "hostile/nan/model.onnx"), &batch(&[4])).unwrap();
    assert!(output.values.iter().all(|value| value.is_nan()));
}

/// A row of the table for each token: 2 numbers, of which the first is the token.
fn table() -> GraphBytes {
    let values: Vec<f32> = (0..10).flat_map(|token| [token as f32, 0.5]).collect();
    GraphBytes::default()
        .constant("table", &[10, 2], &values)
        .input("input_ids", Elem::Int64, &["batch", "sequence"])
        .node("Gather", &["table", "input_ids"], "rows", &[])
}

fn load_bytes(runtime: &Runtime, bytes: &[u8], wanted: Wanted) -> Graph {
    Graph::load(runtime, Source::Memory(bytes), wanted).unwrap_or_else(|error| panic!("{error}"))
}

fn token_vectors_of_texts_of_all_lengths_become_one_rectangle(runtime: &Runtime) {
    let graph = table().node("Identity", &["rows"], "last_hidden_state", &[]);
    let bytes = graph.output("last_hidden_state", Elem::Float, &["batch", "sequence", "2"]).model();
    let mut graph = load_bytes(runtime, &bytes, Wanted::Hidden);
    assert_eq!((graph.width(), graph.sequence()), (Some(2), None));
    let output = run(&mut graph, &[vec![7], vec![1, 2], vec![3, 4]]).unwrap();
    assert_eq!(output.shape, [3, 2, 2]);
    assert_eq!(output.values, [7.0, 0.5, 0.0, 0.0, 1.0, 0.5, 2.0, 0.5, 3.0, 0.5, 4.0, 0.5]);
}

fn without_a_mask_no_text_sees_padding(runtime: &Runtime) {
    let graph =
        table().node("ReduceMean", &["rows"], "mean", &[Attribute("axes", Ints(&[1])), Attribute("keepdims", Int(0))]);
    let graph = graph.node("Identity", &["mean"], "sentence_embedding", &[]);
    let bytes = graph.output("sentence_embedding", Elem::Float, &["batch", "2"]).model();
    let mut graph = load_bytes(runtime, &bytes, Wanted::Hidden);
    let output = run(&mut graph, &[vec![8], vec![2, 4], vec![6]]).unwrap();
    assert_eq!(output.shape, [3, 2]);
    assert_eq!(output.values, [8.0, 0.5, 3.0, 0.5, 6.0, 0.5]);
}

fn outputs_of_16_and_64_bits_are_read(runtime: &Runtime) {
    for elem in [Elem::Float16, Elem::Float64] {
        let graph = table().node("Cast", &["rows"], "token_embeddings", &[Attribute("to", Int(elem as u64))]);
        let bytes = graph.output("token_embeddings", elem, &["batch", "sequence", "2"]).model();
        let mut graph = load_bytes(runtime, &bytes, Wanted::Hidden);
        assert_eq!(run(&mut graph, &[vec![7]]).unwrap().values, [7.0, 0.5]);
    }
}

/// The table in a file beside the graph.
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

fn weights_in_a_file_beside_the_graph_are_found_also_behind_links(runtime: &Runtime) {
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
        let mut graph = Graph::load(runtime, Source::File(&graph), Wanted::Hidden).unwrap();
        assert_eq!(run(&mut graph, &[vec![7]]).unwrap().values, [21.0, 0.5]);
    }
    std::fs::remove_file(folder.path().join("model.onnx_data")).unwrap();
    let error = Graph::load(runtime, Source::File(&folder.path().join("model.onnx")), Wanted::Hidden);
    let error = error.map(drop).unwrap_err().to_string();
    assert!(error.contains("model.onnx_data, which cannot be read: No such file"), "{error}");
}

/// Scores of a text are the row of its first token, after these steps.
fn scores(steps: &[(&'static str, &[&str], &str)], output: &str) -> Vec<u8> {
    let axes = || [Attribute("axes", Ints(&[1])), Attribute("keepdims", Int(0))];
    let graph = table().node("ReduceMax", &["rows"], "z", &axes());
    let graph = steps.iter().fold(graph, |graph, (operator, inputs, output)| graph.node(operator, inputs, output, &[]));
    graph.output(output, Elem::Float, &["batch", "2"]).model()
}

fn probabilities_are_known_by_the_step_that_makes_them_and_never_by_their_name(runtime: &Runtime) {
    for (bytes, scale) in [
        (scores(&[("Softmax", &["z"], "logits")], "logits"), Scale::Softmax),
        (scores(&[("Sigmoid", &["z"], "s"), ("Identity", &["s"], "probabilities")], "probabilities"), Scale::Sigmoid),
        (scores(&[("Identity", &["z"], "logits")], "logits"), Scale::Scores),
    ] {
        assert_eq!(load_bytes(runtime, &bytes, Wanted::Logits).scale(), scale);
    }
    let called_so = scores(&[("Abs", &["z"], "probabilities")], "probabilities");
    let error = Graph::load(runtime, Source::Memory(&called_so), Wanted::Logits).map(drop).unwrap_err().to_string();
    assert!(error.contains("its output probabilities float32 [batch, 2] has the name of probabilities"), "{error}");
    assert!(error.contains("Abs"), "{error}");
}

fn tokens_and_lengths_that_a_graph_does_not_have_are_found_before_it_serves(runtime: &Runtime) {
    let mut graph = load(runtime, "hostile/vocabulary/model.onnx");
    assert!(graph.probe(198, 64, 0).is_ok());
    let error = graph.probe(199, 64, 0).unwrap_err();
    assert!(matches!(error, ProbeError::Token { tokens: 200, last: 199, .. }), "{error}");
    let mut graph = load(runtime, "bert/onnx/model.onnx");
    assert!(graph.probe(199, 64, 0).is_ok());
    let error = graph.probe(199, 66, 0).unwrap_err();
    assert!(matches!(error, ProbeError::Length { tokens: 66, .. }), "{error}");
}

fn an_answer_of_another_shape_than_stated_is_an_error(runtime: &Runtime) {
    let graph = table().node("Transpose", &["rows"], "last_hidden_state", &[Attribute("perm", Ints(&[1, 0, 2]))]);
    let bytes = graph.output("last_hidden_state", Elem::Float, &["batch", "sequence", "2"]).model();
    let Ok(mut graph) = Graph::load(runtime, Source::Memory(&bytes), Wanted::Hidden) else {
        return;
    };
    let error = run(&mut graph, &[vec![1, 2, 3]]).unwrap_err();
    assert!(matches!(error, RunError::Shape { .. }), "{error}");
}

fn only_the_wanted_output_is_computed(runtime: &Runtime) {
    // The other output fails whenever it is computed: 7 rows do not multiply with 2 columns.
    let graph = table()
        .node("Identity", &["rows"], "last_hidden_state", &[])
        .constant("seven", &[7, 2], &[0.0; 14])
        .node("MatMul", &["rows", "seven"], "other", &[]);
    let graph = graph.output("last_hidden_state", Elem::Float, &["batch", "sequence", "2"]);
    let bytes = graph.output("other", Elem::Float, &["a", "b", "c"]).model();
    // A runtime that infers shapes may see it coming.
    if let Ok(mut graph) = Graph::load(runtime, Source::Memory(&bytes), Wanted::Hidden) {
        assert_eq!(run(&mut graph, &[vec![7]]).unwrap().values, [7.0, 0.5]);
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
        // Found by its directory, and it is the same one.
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
    assert!(error.contains("can load one only"), "{error}");
}

#[test]
fn a_library_that_was_named_and_is_none_is_an_error_even_when_another_runtime_would_do() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("libonnxruntime.so");
    std::fs::write(&text, "a text").unwrap();
    for (library, expected) in [(text, "not a shared library"), (directory.path().join("no"), "no such file")] {
        let options = Options { library: Some(library), ..Options::default() };
        let error = Runtime::find(&options).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("--onnx-runtime rten"), "{error}");
    }
}

/// The same checks for both runtimes.
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

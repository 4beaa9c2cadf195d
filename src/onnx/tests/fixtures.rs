//! The graphs of `tests/fixtures`: their answers and their ports.

use super::*;

/// Reads token ids and their logits.
fn golden(model: &str) -> Vec<(Vec<u32>, Vec<f32>)> {
    let lines = std::fs::read_to_string(fixtures().join("golden.jsonl")).unwrap();
    let of_model = lines.lines().filter(|line| line.starts_with(&format!("{{\"model\": \"{model}\",")));
    of_model.map(|line| (numbers(line, "ids"), numbers(line, "logits"))).collect()
}

/// Reads the numbers in a field of a line of JSON.
fn numbers<T: std::str::FromStr<Err: std::fmt::Debug>>(line: &str, field: &str) -> Vec<T> {
    let start = line.rfind(&format!("\"{field}\": [")).expect(field) + field.len() + 5;
    let list = &line[start..start + line[start..].find(']').unwrap()];
    list.split(", ").map(|number| number.parse().unwrap()).collect()
}

pub fn answers_are_the_golden_ones(runtime: &Runtime) {
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

pub fn a_text_is_answered_alike_alone_and_in_any_batch(runtime: &Runtime) {
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

pub fn int8_runs(runtime: &Runtime) {
    let mut graph = load(runtime, "bert/onnx/model_quantized.onnx");
    for (ids, logits) in golden("bert#model_quantized.onnx") {
        let output = run(&mut graph, &[ids]).unwrap();
        assert_near(&output.values, &logits, 0.3);
    }
}

pub fn ports_and_sizes_are_told(runtime: &Runtime) {
    let graph = load(runtime, "fixed/model.onnx");
    assert_eq!((graph.width(), graph.sequence()), (Some(3), Some(16)));
    assert_eq!(graph.output().to_string(), "logits float32 [4, 3]");
    let graph = load(runtime, "bert/onnx/model.onnx");
    assert_eq!((graph.width(), graph.sequence()), (Some(3), None));
    let inputs: Vec<&str> = graph.inputs().iter().map(|port| port.name.as_str()).collect();
    assert_eq!(inputs, ["input_ids", "attention_mask", "token_type_ids"]);
    assert!(graph.inputs()[0].to_string().ends_with("[batch, sequence]"), "{}", graph.inputs()[0]);
}

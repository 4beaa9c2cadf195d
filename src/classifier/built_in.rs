//! The built-in classifier: sentiment of short English texts (models/sentiment).

use crate::model::{CardError, ClassifierCard};

const GRAPH: &[u8] = include_bytes!("../../models/sentiment/model.onnx");
const TOKENIZER: &[u8] = include_bytes!("../../models/sentiment/tokenizer.json");
const CONFIG: &[u8] = include_bytes!("../../models/sentiment/config.json");

/// Reads the card. The files are part of this build, so an error is a mistake of ours.
pub fn card() -> Result<ClassifierCard, CardError> {
    ClassifierCard::built_in("built in", CONFIG, TOKENIZER, GRAPH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::{Kept, Reading, Tokenizer};
    use crate::onnx::{self, Choice, Graph, Runtime, Wanted};

    /// The tolerance between two computations of the graph, of logits between -3 and 4.
    const TOLERANCE: f32 = 1e-4;

    /// The results of Python's tokenizers and of ONNX Runtime for a text.
    #[derive(serde::Deserialize)]
    struct Golden {
        text: String,
        ids: Vec<u32>,
        logits: Vec<f32>,
    }

    #[test]
    fn tokens_and_logits_are_those_of_another_implementation() {
        let card = card().expect("the files of this build are right");
        let reading = Reading { max_tokens: card.max_tokens, lowercase: false, kept: Kept::Beginning };
        let tokenizer = Tokenizer::new(TOKENIZER, reading).expect("a tokenizer");
        let options = onnx::Options { runtime: Choice::Rten, threads: 1, ..Default::default() };
        let runtime = Runtime::find(&options).expect("rten is in every binary");
        let mut graph = Graph::load(&runtime, onnx::GraphSource::Memory(GRAPH), Wanted::Logits).expect("a graph");
        let golden = include_str!("../../models/sentiment/golden.jsonl").split('\n').filter(|line| !line.is_empty());
        let golden: Vec<Golden> = golden.map(|line| serde_json::from_str(line).expect("a golden line")).collect();
        assert!(golden.len() > 20);
        for Golden { text, ids, logits } in &golden {
            assert_eq!(tokenizer.tokens(text).expect("any text has tokens").ids, *ids, "{text:?}");
            let found = graph.run(&[ids], card.pad_token).expect("the graph runs").values;
            let difference = found.iter().zip(logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(found.len() == logits.len() && difference <= TOLERANCE, "{text:?}: {found:?}, not {logits:?}");
        }
        let batch: Vec<&[u32]> = golden.iter().map(|line| line.ids.as_slice()).collect();
        let together = graph.run(&batch, card.pad_token).expect("the graph runs").values;
        let alone = golden.iter().flat_map(|line| &line.logits);
        let difference = together.iter().zip(alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference <= TOLERANCE, "a batch changes scores by {difference}");
    }
}

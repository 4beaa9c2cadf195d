//! The signature of a graph: the role of each input, and the wanted output.
//!
//! Exporters use the same names for the inputs of a transformer, so names decide. A graph with an unknown input is
//! refused: a guess would run and give wrong answers.

use super::port::{self, Element, Port};

/// The kind of output that the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The scores of a classifier: `[texts, labels]`.
    Logits,
    /// The token vectors of an encoder, `[texts, sequence, hidden]`, or pooled vectors, `[texts, hidden]`.
    Hidden,
}

/// The reason why a loaded graph cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// No input takes token ids.
    #[error(
        "none of its inputs has a name with input_ids; its inputs: {inputs}; export the transformer alone, \
         with token ids as its input"
    )]
    NoIds {
        /// The graph's inputs.
        inputs: String,
    },
    /// An input has an unknown role.
    #[error(
        "its input {input} is unknown; export it with input_ids and, where needed, attention_mask and token_type_ids"
    )]
    Input {
        /// The input.
        input: Port,
    },
    /// An input has a known name and another type.
    #[error("its input {input} must be int64 or int32 [batch, sequence]; export it again with that type")]
    InputType {
        /// The input.
        input: Port,
    },
    /// The inputs fix a dimension at sizes that allow no batch.
    #[error(
        "its inputs fix {what} at different sizes or at 0: {inputs}; export it with one size, or with a dynamic one"
    )]
    Sizes {
        /// The dimension.
        what: &'static str,
        /// All inputs.
        inputs: String,
    },
    /// No output is certainly the wanted one.
    #[error("it has no output {wanted}; its outputs: {outputs}; export it with one of these")]
    NoOutput {
        /// A description of the outputs that would do.
        wanted: &'static str,
        /// The graph's outputs.
        outputs: String,
    },
    /// An output is named as probabilities, and no known step makes them.
    #[error(
        "its output {output} is named as probabilities, but the step that makes it is {operator}; \
         export the logits, or let the graph end with Softmax or Sigmoid"
    )]
    Probabilities {
        /// The output.
        output: Port,
        /// The operator of that step.
        operator: String,
    },
    /// The wanted output has another type or shape.
    #[error("its output {output} must be float32, float16 or float64 {shape}")]
    OutputType {
        /// The output.
        output: Port,
        /// The expected shape.
        shape: &'static str,
    },
}

/// The role of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Ids,
    Mask,
    Types,
}

/// An input and its role.
#[derive(Debug)]
pub(super) struct Input {
    pub role: Role,
    /// The index among the graph's inputs.
    pub index: usize,
    /// The input takes 64-bit integers, not 32-bit ones.
    pub wide: bool,
}

/// The way to call a graph.
#[derive(Debug)]
pub(super) struct Signature {
    pub inputs: Vec<Input>,
    /// The index of the wanted output among the graph's outputs.
    pub output: usize,
    /// Texts in a call, if the graph fixes their number.
    pub texts: Option<usize>,
    /// Tokens of each text, if the graph fixes their number.
    pub sequence: Option<usize>,
    /// Numbers in a row of the output, if the graph states it.
    pub width: Option<usize>,
}

impl Signature {
    pub(super) fn of(inputs: &[Port], outputs: &[Port], wanted: Wanted) -> Result<Self, Unfit> {
        let ids = ids(inputs).ok_or_else(|| Unfit::NoIds { inputs: port::list(inputs) })?;
        let roles = inputs.iter().enumerate().map(|(index, input)| take(input, index, ids));
        let output = pick(outputs, wanted)?;
        let chosen = &outputs[output];
        Ok(Self {
            inputs: roles.collect::<Result<_, _>>()?,
            output,
            texts: fixed(inputs, 0, "the batch")?,
            sequence: fixed(inputs, 1, "the sequence")?,
            width: chosen.rank().and_then(|rank| chosen.size(rank.checked_sub(1)?)),
        })
    }

    /// Returns whether the graph takes a mask of its padding.
    pub(super) fn masked(&self) -> bool {
        self.inputs.iter().any(|input| input.role == Role::Mask)
    }
}

/// Finds the input named `input_ids`, or else the only one with a longer name (`input_ids:0`).
fn ids(inputs: &[Port]) -> Option<usize> {
    let exact = inputs.iter().position(|input| input.name == "input_ids");
    exact.or_else(|| only(inputs, |input| input.name.contains("input_ids")))
}

/// Assigns a role to an input.
fn take(input: &Port, index: usize, ids: usize) -> Result<Input, Unfit> {
    let role = match input.name.as_str() {
        _ if index == ids => Role::Ids,
        name if is_called(name, "attention_mask") => Role::Mask,
        name if is_called(name, "token_type_ids") => Role::Types,
        _ => return Err(Unfit::Input { input: input.clone() }),
    };
    let integers = matches!(input.element, Element::Int64 | Element::Int32);
    if !integers || input.rank().is_some_and(|rank| rank != 2) {
        return Err(Unfit::InputType { input: input.clone() });
    }
    Ok(Input { role, index, wide: input.element == Element::Int64 })
}

/// Returns whether a name is the known one, with or without an exporter's suffix (`attention_mask:0`). A prefix makes
/// it another input: `global_attention_mask`, `decoder_attention_mask`.
fn is_called(name: &str, known: &str) -> bool {
    name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '.']))
}

/// Finds the size at which the inputs fix a dimension.
fn fixed(inputs: &[Port], dimension: usize, what: &'static str) -> Result<Option<usize>, Unfit> {
    let mut sizes = inputs.iter().filter_map(|input| input.size(dimension));
    let size = sizes.next();
    if size == Some(0) || sizes.any(|other| Some(other) != size) {
        return Err(Unfit::Sizes { what, inputs: port::list(inputs) });
    }
    Ok(size)
}

/// Picks the wanted output.
fn pick(outputs: &[Port], wanted: Wanted) -> Result<usize, Unfit> {
    let named = |name: &str| outputs.iter().position(|output| output.name == name);
    let only_of_rank = |rank| only(outputs, |output: &Port| floats(output) && output.rank() == Some(rank));
    let (found, looked_for) = match wanted {
        Wanted::Logits => {
            (named("logits").or_else(|| only_of_rank(2)), "named logits, and no single float [batch, labels]")
        }
        Wanted::Hidden => (
            named("last_hidden_state")
                .or_else(|| named("token_embeddings"))
                .or_else(|| only_of_rank(3))
                .or_else(|| named("sentence_embedding")),
            "named last_hidden_state, token_embeddings or sentence_embedding, and no single float \
             [batch, sequence, hidden]",
        ),
    };
    let found = found.ok_or_else(|| Unfit::NoOutput { wanted: looked_for, outputs: port::list(outputs) })?;
    let (ranks, shape): (&[usize], _) = match wanted {
        Wanted::Logits => (&[2], "[batch, labels]"),
        Wanted::Hidden => (&[2, 3], "[batch, sequence, hidden] or [batch, hidden]"),
    };
    let output = &outputs[found];
    if !floats(output) || output.rank().is_some_and(|rank| !ranks.contains(&rank)) {
        return Err(Unfit::OutputType { output: output.clone(), shape });
    }
    Ok(found)
}

/// Returns whether a port has floats of any width.
fn floats(port: &Port) -> bool {
    matches!(port.element, Element::Float32 | Element::Float16 | Element::Float64)
}

/// Finds the only port for which `is_it` holds.
fn only(ports: &[Port], is_it: impl Fn(&Port) -> bool) -> Option<usize> {
    let mut found = ports.iter().enumerate().filter(|(_, port)| is_it(port)).map(|(index, _)| index);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::super::port::Dim;
    use super::*;

    fn port(name: &str, element: Element, shape: &[Dim]) -> Port {
        Port { name: name.to_owned(), element, shape: Some(shape.to_vec()) }
    }

    fn ids(name: &str) -> Port {
        port(name, Element::Int64, &[Dim::Any, Dim::Any])
    }

    fn floats(name: &str, shape: &[Dim]) -> Port {
        port(name, Element::Float32, shape)
    }

    const ANY: Dim = Dim::Any;

    fn hidden() -> Vec<Port> {
        vec![floats("last_hidden_state", &[ANY, ANY, Dim::Fixed(384)])]
    }

    fn unfit(inputs: &[Port], outputs: &[Port], wanted: Wanted) -> String {
        Signature::of(inputs, outputs, wanted).expect_err("it cannot be used").to_string()
    }

    #[test]
    fn inputs_are_found_by_name_in_any_order_and_either_width() {
        let types = port("token_type_ids", Element::Int32, &[ANY, ANY]);
        let inputs = [ids("attention_mask:0"), ids("input_ids:0"), types];
        let signature = Signature::of(&inputs, &hidden(), Wanted::Hidden).unwrap();
        let roles: Vec<(Role, bool)> = signature.inputs.iter().map(|input| (input.role, input.wide)).collect();
        assert_eq!(roles, [(Role::Mask, true), (Role::Ids, true), (Role::Types, false)]);
        assert_eq!((signature.texts, signature.sequence, signature.width), (None, None, Some(384)));
        assert!(signature.masked());
    }

    #[test]
    fn an_input_that_would_be_guessed_refuses_the_graph() {
        let error = unfit(&[ids("input_ids"), ids("position_ids")], &hidden(), Wanted::Hidden);
        assert!(error.starts_with("its input position_ids int64 [?, ?] is unknown"), "{error}");
        for other in ["global_attention_mask", "decoder_attention_mask", "decoder_input_ids", "attention_masks"] {
            unfit(&[ids("input_ids"), ids(other)], &hidden(), Wanted::Hidden);
        }
    }

    #[test]
    fn a_graph_without_token_ids_is_refused_with_what_it_has() {
        let error = unfit(&[floats("pixels", &[ANY, Dim::Fixed(3)])], &hidden(), Wanted::Hidden);
        assert!(error.contains("its inputs: pixels float32 [?, 3]"), "{error}");
        let error = unfit(&[ids("left_input_ids"), ids("right_input_ids")], &hidden(), Wanted::Hidden);
        assert!(error.contains("left_input_ids int64 [?, ?], right_input_ids"), "{error}");
        unfit(&[floats("input_ids", &[ANY, ANY])], &hidden(), Wanted::Hidden);
        unfit(&[port("input_ids", Element::Int64, &[ANY])], &hidden(), Wanted::Hidden);
    }

    #[test]
    fn fixed_sizes_must_agree() {
        let fixed = |name, texts, tokens| port(name, Element::Int64, &[Dim::Fixed(texts), tokens]);
        let inputs = [fixed("input_ids", 2, ANY), fixed("attention_mask", 2, Dim::Fixed(16))];
        let signature = Signature::of(&inputs, &hidden(), Wanted::Hidden).unwrap();
        assert_eq!((signature.texts, signature.sequence), (Some(2), Some(16)));
        let differ = [fixed("input_ids", 2, ANY), fixed("attention_mask", 3, ANY)];
        assert!(unfit(&differ, &hidden(), Wanted::Hidden).contains("the batch"));
        assert!(unfit(&[fixed("input_ids", 1, Dim::Fixed(0))], &hidden(), Wanted::Hidden).contains("the sequence"));
    }

    #[test]
    fn the_output_is_the_named_one_or_the_only_one_of_its_shape() {
        let inputs = [ids("input_ids")];
        let pooled = floats("sentence_embedding", &[ANY, Dim::Fixed(8)]);
        let tokens = floats("token_embeddings", &[ANY, ANY, Dim::Fixed(8)]);
        let scores = floats("scores", &[ANY, Dim::Fixed(2)]);
        let chosen = |outputs: &[Port], wanted| Signature::of(&inputs, outputs, wanted).unwrap().output;
        assert_eq!(chosen(&[pooled.clone(), tokens.clone()], Wanted::Hidden), 1);
        assert_eq!(chosen(std::slice::from_ref(&pooled), Wanted::Hidden), 0);
        assert_eq!(chosen(&[tokens.clone(), scores.clone()], Wanted::Logits), 1);
        let logits = floats("logits", &[ANY, Dim::Fixed(2)]);
        assert_eq!(chosen(&[scores.clone(), logits.clone()], Wanted::Logits), 1);
        let two = unfit(&inputs, &[scores.clone(), pooled], Wanted::Logits);
        assert!(two.contains("its outputs: scores float32 [?, 2], sentence_embedding float32 [?, 8]"), "{two}");
        assert!(unfit(&inputs, &[scores], Wanted::Hidden).contains("last_hidden_state"));
    }

    #[test]
    fn an_output_of_another_shape_or_type_is_refused_by_name() {
        let inputs = [ids("input_ids")];
        let per_token = floats("logits", &[ANY, ANY, Dim::Fixed(9)]);
        assert!(unfit(&inputs, &[per_token], Wanted::Logits).contains("its output logits float32 [?, ?, 9]"));
        let whole = port("logits", Element::Int64, &[ANY, ANY]);
        assert!(
            unfit(&inputs, &[whole], Wanted::Logits).contains("must be float32, float16 or float64 [batch, labels]")
        );
    }
}

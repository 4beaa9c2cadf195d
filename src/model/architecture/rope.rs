//! The rotation of queries and keys, and the kind of each layer, as configurations write them.
//!
//! Older configurations have `rope_theta` and `rope_scaling`, newer ones `rope_parameters`: one object, or one for each
//! kind of layer. Linear scaling is honoured, and NTK scaling where the family has it. Other scalings change with the
//! length of a text, or need numbers beside θ; they are refused by name.

use serde_json::{Map, Value};

use super::Rope;
use super::fields::Fields;
use crate::model::error::CardError;

/// A kind of layer by what a token attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All tokens, or all tokens before.
    Full,
    /// Those in a window.
    Sliding,
}

/// The names of the kinds in `layer_types` and in `rope_parameters`.
const KINDS: [(Kind, &str); 2] = [(Kind::Full, "full_attention"), (Kind::Sliding, "sliding_attention")];

impl Kind {
    /// Takes `layer_types`, or asks `usual` for each layer.
    pub(super) fn take(
        fields: &mut Fields<'_>,
        layers: usize,
        usual: impl Fn(usize) -> Self,
    ) -> Result<Vec<Self>, CardError> {
        let Some(names) = fields.take::<Vec<String>>("layer_types")? else {
            return Ok((0..layers).map(usual).collect());
        };
        if names.len() != layers {
            let problem = format!("layer_types has {} layers, and num_hidden_layers is {layers}", names.len());
            return Err(fields.malformed(problem));
        }
        let of_name = |name: &String| {
            let known = KINDS.iter().find(|(_, known)| known == name);
            known
                .map(|(kind, _)| *kind)
                .ok_or_else(|| fields.unsupported("layer_types", name, "full_attention and sliding_attention"))
        };
        names.iter().map(of_name).collect()
    }
}

/// The rotations in the layers of each kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ropes {
    pub(super) full: Rope,
    pub(super) sliding: Rope,
}

impl Ropes {
    /// Returns the rotation in the layers of a kind.
    pub(super) fn of(self, kind: Kind) -> Rope {
        match kind {
            Kind::Full => self.full,
            Kind::Sliding => self.sliding,
        }
    }
}

/// Takes the rotations of a family with two kinds of layers. `names`: the older fields for θ with its default, of full
/// and of sliding layers. `rope_scaling` is for full layers.
pub(super) fn of_kinds(fields: &mut Fields<'_>, names: [(&str, f64); 2]) -> Result<Ropes, CardError> {
    let [full, sliding] = names.map(|(name, usual)| fields.take::<f64>(name).map(|theta| theta.unwrap_or(usual)));
    let scaling: Option<Map<String, Value>> = fields.take("rope_scaling")?;
    let (full, sliding) = (read(fields, "rope_scaling", scaling, full?, None)?, Rope { theta: sliding?, factor: 1.0 });
    let Some(mut newer) = fields.take::<Map<String, Value>>("rope_parameters")? else {
        return Ok(Ropes { full, sliding });
    };
    let mut of = |(_, name): (Kind, &str), older: Rope| {
        let own = newer.remove(name).filter(|value| !value.is_null());
        let own = own.map(serde_json::from_value).transpose();
        let own = own.map_err(|error| fields.malformed(format!("rope_parameters.{name}: {error}")))?;
        read(fields, &format!("rope_parameters.{name}"), own, older.theta, None)
    };
    let ropes = Ropes { full: of(KINDS[0], full)?, sliding: of(KINDS[1], sliding)? };
    match newer.iter().find(|(_, value)| !value.is_null()) {
        Some((name, value)) => {
            let supported = "parameters of full_attention and sliding_attention";
            Err(fields.unsupported(&format!("rope_parameters.{name}"), &value.to_string(), supported))
        }
        None => Ok(ropes),
    }
}

/// Takes the rotation of a family with one kind of layers. `ntk`: the columns of a head, if the family has NTK scaling.
pub(super) fn of_all(fields: &mut Fields<'_>, usual: f64, ntk: Option<usize>) -> Result<Rope, CardError> {
    let theta = fields.take("rope_theta")?.unwrap_or(usual);
    let older: Option<Map<String, Value>> = fields.take("rope_scaling")?;
    match fields.take::<Map<String, Value>>("rope_parameters")? {
        Some(newer) => read(fields, "rope_parameters", Some(newer), theta, ntk),
        None => read(fields, "rope_scaling", older, theta, ntk),
    }
}

/// Reads an object with a scaling and maybe θ. Without it positions are not scaled.
fn read(
    fields: &Fields<'_>,
    name: &str,
    object: Option<Map<String, Value>>,
    theta: f64,
    ntk: Option<usize>,
) -> Result<Rope, CardError> {
    let mut object = object.unwrap_or_default();
    object.retain(|_, value| !value.is_null());
    let number = |object: &mut Map<String, Value>, field: &str| match object.remove(field) {
        None => Ok(None),
        Some(value) => match value.as_f64().filter(|number| number.is_finite() && *number > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(fields.malformed(format!("{name}.{field} is {value}, and must be a positive number"))),
        },
    };
    let theta = number(&mut object, "rope_theta")?.unwrap_or(theta);
    if !(theta.is_finite() && theta > 0.0) {
        return Err(fields.malformed(format!("the base of the rotation is {theta}, and must be a positive number")));
    }
    // `type` is the older name; both are written for older readers.
    let of_type = object.remove("type");
    let of_type = object.remove("rope_type").or(of_type);
    let factor = number(&mut object, "factor")?.unwrap_or(1.0);
    let rope = match (of_type.as_ref().map_or(Some("default"), Value::as_str), ntk) {
        (Some("default"), _) => Rope { theta, factor: 1.0 },
        (Some("linear"), _) => Rope { theta, factor },
        (Some("ntk"), Some(head_dim)) => Rope { theta: theta * factor, factor: factor.powf(2.0 / head_dim as f64) },
        _ => {
            let of_type = of_type.unwrap_or_default().to_string();
            let supported = if ntk.is_some() { "default, linear and ntk" } else { "default and linear" };
            return Err(fields.unsupported(&format!("{name}.rope_type"), of_type.trim_matches('"'), supported));
        }
    };
    // A whole head is rotated.
    object.retain(|field, value| !(field == "partial_rotary_factor" && value.as_f64() == Some(1.0)));
    match object.iter().next() {
        Some((field, value)) => {
            let supported = "rope_theta, rope_type and factor";
            Err(fields.unsupported(&format!("{name}.{field}"), &value.to_string(), supported))
        }
        None => Ok(rope),
    }
}

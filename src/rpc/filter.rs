//! `Filter`: from the wire to a condition that can be evaluated.

use std::ops::Bound;

use super::limits::Limits;
use super::metadata;
use super::status::{Failure, shown};
use crate::collection::Filter;
use crate::collection::filter::{Bounds, Finite, Path, Scalar, text};
use crate::proto::{self, filter::Condition};

/// Nesting allowed, in messages and in text alike.
const MAX_DEPTH: usize = text::MAX_DEPTH;

/// Reads a filter. `field`: its path in the request.
pub fn parse(field: &str, filter: proto::Filter, limits: &Limits) -> Result<Filter, Failure> {
    let parsed = nested(field, filter, limits, MAX_DEPTH)?;
    // A text inside adds its own depth.
    if parsed.depth() > MAX_DEPTH { Err(too_deep(field)) } else { Ok(parsed) }
}

fn too_deep(field: &str) -> Failure {
    Failure::invalid(field, format!("is nested more than {MAX_DEPTH} deep"))
}

fn nested(field: &str, filter: proto::Filter, limits: &Limits, depth: usize) -> Result<Filter, Failure> {
    let depth = depth.checked_sub(1).ok_or_else(|| too_deep(field))?;
    let Some(condition) = filter.condition else {
        return Err(Failure::invalid(field, "has no condition"));
    };
    match condition {
        Condition::And(list) => all(&format!("{field}.and.filters"), list, limits, depth).map(Filter::all),
        Condition::Or(list) => all(&format!("{field}.or.filters"), list, limits, depth).map(Filter::any),
        Condition::Not(inner) => Ok(Filter::Not(Box::new(nested(&format!("{field}.not"), *inner, limits, depth)?))),
        Condition::Equals(proto::filter::Equals { path: at, value }) => {
            let at = path(&format!("{field}.equals.path"), &at)?;
            let field = format!("{field}.equals.value");
            let value = value.ok_or_else(|| Failure::invalid(field.as_str(), "is missing"))?;
            Ok(Filter::In(at, vec![scalar(&field, &value)?]))
        }
        Condition::In(proto::filter::In { path: at, values }) => {
            let at = path(&format!("{field}.in.path"), &at)?;
            let field = format!("{field}.in.values");
            if values.is_empty() {
                return Err(Failure::invalid(field, "0 items, at least 1 is required"));
            }
            let values = values.iter().enumerate().map(|(n, value)| scalar(&format!("{field}[{n}]"), value));
            Ok(Filter::In(at, values.collect::<Result<_, _>>()?))
        }
        Condition::Range(range) => bounds(&format!("{field}.range"), &range),
        Condition::Exists(proto::filter::Exists { path: at }) => {
            Ok(Filter::Exists(path(&format!("{field}.exists.path"), &at)?))
        }
        Condition::Text(text) => {
            let field = format!("{field}.text");
            let (n, most) = (text.len(), limits.max_metadata_bytes);
            if n > most {
                return Err(Failure::invalid(field, format!("{n} bytes exceed the limit of {most}")));
            }
            text::parse(&text).map_err(|error| Failure::invalid(field, error.to_string()))
        }
    }
}

fn all(field: &str, list: proto::filter::List, limits: &Limits, depth: usize) -> Result<Vec<Filter>, Failure> {
    if list.filters.is_empty() {
        return Err(Failure::invalid(field, "0 items, at least 1 is required"));
    }
    let filters = list.filters.into_iter().enumerate();
    filters.map(|(n, filter)| nested(&format!("{field}[{n}]"), filter, limits, depth)).collect()
}

fn bounds(field: &str, range: &proto::filter::Range) -> Result<Filter, Failure> {
    let at = path(&format!("{field}.path"), &range.path)?;
    let bound = |name: &str, x: Option<f64>| match x.map(Finite::new) {
        Some(None) => Err(Failure::invalid(format!("{field}.{name}"), "is not a finite number")),
        Some(finite) => Ok(finite),
        None => Ok(None),
    };
    let (gt, gte) = (bound("gt", range.gt)?, bound("gte", range.gte)?);
    let (lt, lte) = (bound("lt", range.lt)?, bound("lte", range.lte)?);
    // Of two bounds on one side the narrower binds.
    let lower = match (gt, gte) {
        (Some(gt), Some(gte)) if gt < gte => Bound::Included(gte),
        (Some(gt), _) => Bound::Excluded(gt),
        (None, gte) => gte.map_or(Bound::Unbounded, Bound::Included),
    };
    let upper = match (lt, lte) {
        (Some(lt), Some(lte)) if lte < lt => Bound::Included(lte),
        (Some(lt), _) => Bound::Excluded(lt),
        (None, lte) => lte.map_or(Bound::Unbounded, Bound::Included),
    };
    let bounds = Bounds::new(lower, upper).ok_or_else(|| Failure::invalid(field, "has no bound"))?;
    Ok(Filter::Range(at, bounds))
}

/// A field of metadata, by its path. `field`: the path of this in the request.
pub fn path(field: &str, path: &str) -> Result<Path, Failure> {
    Path::parse(path)
        .ok_or_else(|| Failure::invalid(field, format!("{} is not a path of keys joined by dots", shown(path))))
}

fn scalar(field: &str, value: &prost_types::Value) -> Result<Scalar, Failure> {
    let value = metadata::value_to_json(value).map_err(|error| Failure::invalid(field, error.to_string()))?;
    Scalar::of(&value)
        .ok_or_else(|| Failure::invalid(field, "is a list or struct; a null, number, string or boolean is required"))
}

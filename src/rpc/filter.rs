//! `Filter`: from the wire to a condition that can be evaluated.

use serde_json::Value;

use super::metadata;
use super::status::{Failure, shown};
use crate::collection::{Bounds, Filter, Path};
use crate::proto::{self, filter::Condition};

/// Nesting allowed: deeper than anyone writes, far from the end of the stack.
const MAX_DEPTH: usize = 32;

/// Reads a filter. `field`: its path in the request.
pub fn parse(field: &str, filter: proto::Filter) -> Result<Filter, Failure> {
    nested(field, filter, MAX_DEPTH)
}

fn nested(field: &str, filter: proto::Filter, depth: usize) -> Result<Filter, Failure> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Failure::invalid(field, format!("is nested more than {MAX_DEPTH} deep")));
    };
    let Some(condition) = filter.condition else {
        return Err(Failure::invalid(field, "has no condition"));
    };
    match condition {
        Condition::And(list) => all(&format!("{field}.and.filters"), list, depth).map(Filter::And),
        Condition::Or(list) => all(&format!("{field}.or.filters"), list, depth).map(Filter::Or),
        Condition::Not(inner) => Ok(Filter::Not(Box::new(nested(&format!("{field}.not"), *inner, depth)?))),
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
        Condition::Range(proto::filter::Range { path: at, gt, gte, lt, lte }) => {
            let at = path(&format!("{field}.range.path"), &at)?;
            let field = format!("{field}.range");
            let bounds = [gt, gte, lt, lte];
            if bounds.iter().flatten().any(|b| b.is_nan()) {
                return Err(Failure::invalid(field, "a bound is NaN"));
            }
            if bounds.iter().all(Option::is_none) {
                return Err(Failure::invalid(field, "has no bound"));
            }
            Ok(Filter::Range(at, Bounds { gt, gte, lt, lte }))
        }
        Condition::Exists(proto::filter::Exists { path: at }) => {
            Ok(Filter::Exists(path(&format!("{field}.exists.path"), &at)?))
        }
    }
}

fn all(field: &str, list: proto::filter::List, depth: usize) -> Result<Vec<Filter>, Failure> {
    if list.filters.is_empty() {
        return Err(Failure::invalid(field, "0 items, at least 1 is required"));
    }
    list.filters.into_iter().enumerate().map(|(n, filter)| nested(&format!("{field}[{n}]"), filter, depth)).collect()
}

fn path(field: &str, path: &str) -> Result<Path, Failure> {
    Path::parse(path)
        .ok_or_else(|| Failure::invalid(field, format!("{} is not a path of keys joined by dots", shown(path))))
}

fn scalar(field: &str, value: &prost_types::Value) -> Result<Value, Failure> {
    match metadata::value_to_json(value).map_err(|error| Failure::invalid(field, error.to_string()))? {
        Value::Array(_) | Value::Object(_) => {
            Err(Failure::invalid(field, "is a list or struct; a null, number, string or boolean is required"))
        }
        scalar => Ok(scalar),
    }
}

//! Parses a `Filter` message into a condition that can be evaluated.
//!
//! Invariant: the result is within the limits of depth, conditions and values, and nothing is allocated beyond them.

use std::ops::Bound;

use super::limits::Limits;
use super::status::{Failure, shown};
use crate::collection::Filter;
use crate::collection::filter::{Bounds, Finite, Path, Scalar, Size, text};
use crate::wire::metadata;
use crate::wire::{self, filter::Condition};

/// Nesting allowed, both in messages and in texts.
const MAX_DEPTH: usize = text::MAX_DEPTH;

/// Parses a filter. `field` is its path in the request.
pub fn parse(field: &str, filter: wire::Filter, limits: &Limits) -> Result<Filter, Failure> {
    check_size(field, size(&filter), limits)?;
    let (filter, written) = nested(field, filter, limits, MAX_DEPTH)?;
    check_size(field, written, limits)?;
    Ok(filter)
}

fn check_size(field: &str, size: Size, limits: &Limits) -> Result<(), Failure> {
    let Size { conditions, values } = size;
    let (max_conditions, max_values) = (limits.max_filter_conditions, limits.max_filter_values);
    if conditions > max_conditions {
        let reason = format!(
            "{conditions} conditions exceed the limit of {max_conditions}; many values of one field go into one `in`"
        );
        return Err(Failure::invalid(field, reason));
    }
    if values > max_values {
        return Err(Failure::invalid(field, format!("{values} values exceed the limit of {max_values}")));
    }
    Ok(())
}

/// The size of a message; a text counts as one condition. Decoding limits its depth.
fn size(filter: &wire::Filter) -> Size {
    let one = Size { conditions: 1, values: 0 };
    match &filter.condition {
        Some(Condition::AllOf(list) | Condition::AnyOf(list)) => list.filters.iter().map(size).fold(one, Size::and),
        Some(Condition::Negated(inner)) => one.and(size(inner)),
        Some(Condition::Equals(_)) => Size { conditions: 1, values: 1 },
        Some(Condition::OneOf(list)) => Size { conditions: 1, values: list.values.len() },
        Some(Condition::Range(_) | Condition::Exists(_) | Condition::Text(_)) | None => one,
    }
}

fn too_deep(field: &str) -> Failure {
    Failure::invalid(field, format!("is nested more than {MAX_DEPTH} deep"))
}

/// Parses a filter, and returns it with its size as written, texts included. `depth` is the nesting that is left.
fn nested(field: &str, filter: wire::Filter, limits: &Limits, depth: usize) -> Result<(Filter, Size), Failure> {
    let left = depth.checked_sub(1).ok_or_else(|| too_deep(field))?;
    let Some(condition) = filter.condition else {
        return Err(Failure::invalid(field, "has no condition: set one of its fields"));
    };
    let one = Size { conditions: 1, values: 0 };
    match condition {
        Condition::AllOf(list) => all(&format!("{field}.all_of.filters"), list, limits, left).map(joined(Filter::all)),
        Condition::AnyOf(list) => all(&format!("{field}.any_of.filters"), list, limits, left).map(joined(Filter::any)),
        Condition::Negated(inner) => {
            let (inner, size) = nested(&format!("{field}.negated"), *inner, limits, left)?;
            Ok((Filter::Not(Box::new(inner)), size.and(one)))
        }
        Condition::Equals(wire::EqualsCondition { path, value }) => {
            let field = format!("{field}.equals");
            let at = readings(&field, path)?;
            let field = format!("{field}.value");
            let value = value.ok_or_else(|| Failure::invalid(field.as_str(), "is missing: a value is required"))?;
            let value = scalar(&field, &value)?;
            let filter = any_reading(at, |path| Filter::In(path, vec![value.clone()]));
            Ok((filter, Size { conditions: 1, values: 1 }))
        }
        Condition::OneOf(wire::InCondition { path, values }) => {
            let field = format!("{field}.one_of");
            let at = readings(&field, path)?;
            let field = format!("{field}.values");
            if values.is_empty() {
                return Err(Failure::invalid(field, "0 items, at least 1 is required"));
            }
            let values = values.iter().enumerate().map(|(n, value)| scalar(&format!("{field}[{n}]"), value));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            let size = Size { conditions: 1, values: values.len() };
            Ok((any_reading(at, |path| Filter::In(path, values.clone())), size))
        }
        Condition::Range(range) => {
            let field = format!("{field}.range");
            let bounds = bounds(&field, &range)?;
            let at = readings(&field, range.path)?;
            Ok((any_reading(at, |path| Filter::Range(path, bounds)), one))
        }
        Condition::Exists(wire::ExistsCondition { path }) => {
            Ok((any_reading(readings(&format!("{field}.exists"), path)?, Filter::Exists), one))
        }
        Condition::Text(written) => {
            let field = format!("{field}.text");
            let (n, limit) = (written.len(), limits.max_metadata_bytes);
            if n > limit {
                return Err(Failure::invalid(field, format!("{n} bytes exceed the limit of {limit}")));
            }
            let filter = text::parse(&written).map_err(|error| Failure::invalid(&*field, error.to_string()))?;
            if filter.depth() > depth {
                return Err(too_deep(&field));
            }
            let size = filter.size();
            check_size(&field, size, limits)?;
            Ok((filter, size))
        }
    }
}

fn joined(join: fn(Vec<Filter>) -> Filter) -> impl Fn((Vec<Filter>, Size)) -> (Filter, Size) {
    move |(filters, size)| (join(filters), size.and(Size { conditions: 1, values: 0 }))
}

fn all(field: &str, list: wire::FilterList, limits: &Limits, depth: usize) -> Result<(Vec<Filter>, Size), Failure> {
    if list.filters.is_empty() {
        return Err(Failure::invalid(field, "0 items, at least 1 is required"));
    }
    let (mut filters, mut size) = (Vec::with_capacity(list.filters.len()), Size::default());
    for (n, filter) in list.filters.into_iter().enumerate() {
        let (filter, its) = nested(&format!("{field}[{n}]"), filter, limits, depth)?;
        filters.push(filter);
        size = size.and(its);
        check_size(field, size, limits)?;
    }
    Ok((filters, size))
}

fn bounds(field: &str, range: &wire::RangeCondition) -> Result<Bounds, Failure> {
    let bound = |name: &str, x: Option<f64>| match x.map(Finite::new) {
        Some(None) => Err(Failure::invalid(format!("{field}.{name}"), "is not a finite number")),
        Some(finite) => Ok(finite),
        None => Ok(None),
    };
    let (gt, gte) = (bound("gt", range.gt)?, bound("gte", range.gte)?);
    let (lt, lte) = (bound("lt", range.lt)?, bound("lte", range.lte)?);
    // If one side has two bounds, the narrower one applies.
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
    Bounds::new(lower, upper).ok_or_else(|| Failure::invalid(field, "has no bound: set gt, gte, lt or lte"))
}

/// The fields that a path in a message names. `field` is the path of its condition in the request.
fn readings(field: &str, path: Option<String>) -> Result<Vec<Path>, Failure> {
    let missing = || Failure::invalid(format!("{field}.path"), "is missing: the field's path is required");
    names(&format!("{field}.path"), &path.ok_or_else(missing)?)
}

/// The fields that a name may mean. `field` is its path in the request.
pub fn names(field: &str, name: &str) -> Result<Vec<Path>, Failure> {
    let wrong = || {
        let quoted = shown(name);
        Failure::invalid(
            field,
            format!("{quoted} is neither a path of keys joined by dots nor short enough to be one key"),
        )
    };
    Path::readings(name).ok_or_else(wrong)
}

/// The condition on any of the fields that a path may name.
fn any_reading(paths: Vec<Path>, condition: impl Fn(Path) -> Filter) -> Filter {
    Filter::any(paths.into_iter().map(condition).collect())
}

fn scalar(field: &str, value: &prost_types::Value) -> Result<Scalar, Failure> {
    let value = metadata::value_to_json(value).map_err(|error| Failure::invalid(field, error.to_string()))?;
    Scalar::of(&value)
        .ok_or_else(|| Failure::invalid(field, "is a list or struct; expected a null, number, string or boolean"))
}

//! The conditions of `--where` as a filter.

use crate::wire::filter::Condition;
use crate::wire::{Filter, FilterList};

/// Joins conditions that must all hold; `None` without conditions. The server parses their text.
pub fn all(conditions: &[String]) -> Option<Filter> {
    let filter = |text: &String| Filter { condition: Some(Condition::Text(text.clone())) };
    match conditions {
        [] => None,
        [one] => Some(filter(one)),
        several => {
            let filters = several.iter().map(filter).collect();
            Some(Filter { condition: Some(Condition::AllOf(FilterList { filters })) })
        }
    }
}

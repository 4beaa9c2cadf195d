//! What `--where` says, as a filter.

use crate::proto::Filter;
use crate::proto::filter::{Condition, List};

/// Conditions that must all hold; `None` without any. The server reads their text.
pub fn all(conditions: &[String]) -> Option<Filter> {
    let filter = |text: &String| Filter { condition: Some(Condition::Text(text.clone())) };
    match conditions {
        [] => None,
        [one] => Some(filter(one)),
        several => {
            let filters = several.iter().map(filter).collect();
            Some(Filter { condition: Some(Condition::And(List { filters })) })
        }
    }
}

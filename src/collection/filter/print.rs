//! The printer of filters: the inverse of `text`.
//!
//! Parentheses stand around every list inside another list, quotes around every text. A path is quoted where
//! necessary.

use std::fmt::{self, Write};
use std::ops::Bound;

use super::words::{is_keyword, quoted, word};
use super::{Bounds, Filter, Finite, Path, Scalar};

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(filters) => joined(f, filters, " and "),
            Self::Or(filters) => joined(f, filters, " or "),
            Self::Not(filter) => {
                f.write_str("not ")?;
                operand(f, filter)
            }
            Self::In(path, values) => match values.as_slice() {
                [value] => write!(f, "{path} = {value}"),
                values => {
                    write!(f, "{path} in (")?;
                    for (n, value) in values.iter().enumerate() {
                        write!(f, "{}{value}", if n > 0 { ", " } else { "" })?;
                    }
                    f.write_char(')')
                }
            },
            Self::Range(path, Bounds { lower, upper }) => match (lower, upper) {
                (Bound::Included(a), Bound::Unbounded) => write!(f, "{path} >= {a}"),
                (Bound::Excluded(a), Bound::Unbounded) => write!(f, "{path} > {a}"),
                (lower, upper) => {
                    match lower {
                        Bound::Included(a) => write!(f, "{a} <= ")?,
                        Bound::Excluded(a) => write!(f, "{a} < ")?,
                        Bound::Unbounded => {}
                    }
                    write!(f, "{path}")?;
                    match upper {
                        Bound::Included(b) => write!(f, " <= {b}"),
                        Bound::Excluded(b) => write!(f, " < {b}"),
                        Bound::Unbounded => Ok(()),
                    }
                }
            },
            Self::Exists(path) => write!(f, "{path} exists"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, filters: &[Filter], by: &str) -> fmt::Result {
    for (n, filter) in filters.iter().enumerate() {
        if n > 0 {
            f.write_str(by)?;
        }
        operand(f, filter)?;
    }
    Ok(())
}

/// Prints a part of a filter, in parentheses if it is a list itself.
fn operand(f: &mut fmt::Formatter<'_>, filter: &Filter) -> fmt::Result {
    match filter {
        Filter::And(_) | Filter::Or(_) => write!(f, "({filter})"),
        other => write!(f, "{other}"),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, key) in self.keys().iter().enumerate() {
            if n > 0 {
                f.write_char('.')?;
            }
            if !key.is_empty() && word(key) == key && !is_keyword(key) {
                f.write_str(key)?;
            } else {
                quoted(f, key)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Number(x) => write!(f, "{x}"),
            Self::Text(text) => quoted(f, text),
        }
    }
}

impl fmt::Display for Finite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The shortest text that parses to the same number, with an exponent for very large and very small ones.
        if self.0 != 0.0 && !(1e-5..1e17).contains(&self.0.abs()) {
            write!(f, "{:e}", self.0)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

//! The types of the values in CSV columns, from the user.

use std::collections::BTreeMap;
use std::str::FromStr;

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// The text as written.
    Text,
    /// A double.
    Number,
    /// `true` or `false` in any case, `1` or `0`.
    Boolean,
}

impl Type {
    /// The name that users write.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// The types of columns, written `year:number,flag:boolean`. Other columns hold text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Types(BTreeMap<String, Type>);

impl Types {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn of(&self, column: &str) -> Option<Type> {
        self.0.get(column).copied()
    }
}

impl FromStr for Types {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut types = BTreeMap::new();
        for part in text.split(',') {
            let expected = || {
                format!("{part:?}: expected COLUMN:TYPE, for example year:number; types are number, boolean and text")
            };
            let (column, of) = part.rsplit_once(':').ok_or_else(expected)?;
            let of = [Type::Text, Type::Number, Type::Boolean].into_iter().find(|known| known.name() == of.trim());
            if types.insert(column.to_owned(), of.ok_or_else(expected)?).is_some() {
                return Err(format!("{column:?} occurs twice: expected one type for each column"));
            }
        }
        Ok(Self(types))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_may_have_a_colon_and_each_has_one_type() {
        let types: Types = "year:number,a:b:boolean".parse().unwrap();
        assert_eq!((types.of("year"), types.of("a:b"), types.of("x")), (Some(Type::Number), Some(Type::Boolean), None));
        for wrong in ["", "year", "year:int", "a:text,a:number"] {
            assert!(wrong.parse::<Types>().is_err(), "{wrong}");
        }
    }
}

//! Patterns of collection names: a whole name, a beginning followed by `*`, or `*` for all.

use std::fmt;

/// The most patterns of a principal. A list of collections tests each name against all of them.
pub(super) const MAX_PATTERNS: usize = 64;

/// The most bytes of a pattern: of a name, and the star.
const MAX_BYTES: usize = 1024;

/// The collections of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// Names with this beginning, which is empty for all names.
    Prefix(String),
}

impl Patterns {
    /// All collections.
    pub fn all() -> Self {
        Self(vec![Pattern::Prefix(String::new())])
    }

    /// No collection.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Parses patterns. An error names the one that is wrong.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let parsed: Vec<Pattern> = patterns.into_iter().map(parse).collect::<Result<_, _>>()?;
        if parsed.len() > MAX_PATTERNS {
            return Err(format!("{} patterns exceed the limit of {MAX_PATTERNS}", parsed.len()));
        }
        Ok(Self(parsed))
    }

    /// Returns true if a collection of this name is among them.
    pub fn cover(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(exact) => exact == name,
            Pattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
        })
    }

    /// Returns true if every collection is among them.
    pub fn cover_all(&self) -> bool {
        self.0.iter().any(|pattern| matches!(pattern, Pattern::Prefix(prefix) if prefix.is_empty()))
    }

    /// The patterns as text.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

fn parse(pattern: &str) -> Result<Pattern, String> {
    let (name, is_prefix) = match pattern.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (pattern, false),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = pattern.len() <= MAX_BYTES && !name.starts_with('.') && name.chars().all(allowed);
    if !fits || (name.is_empty() && !is_prefix) {
        let rule = "expected the name of a collection, the beginning of names followed by `*`, or `*` for all";
        let shown: String = pattern.chars().take(100).collect();
        return Err(format!("{shown:?} is no pattern: {rule}"));
    }
    let name = name.to_owned();
    Ok(if is_prefix { Pattern::Prefix(name) } else { Pattern::Exact(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_a_beginning_or_all() {
        let patterns = Patterns::parse(["shared", "team-a-*"]).unwrap();
        for (name, is_covered) in [
            ("shared", true),
            ("shared2", false),
            ("share", false),
            ("team-a-", true),
            ("team-a-x", true),
            ("team-a", false),
            ("team-b-x", false),
            ("", false),
        ] {
            assert_eq!(patterns.cover(name), is_covered, "{name}");
        }
        assert!(!patterns.cover_all() && patterns.to_string() == "shared, team-a-*");
        let all = Patterns::parse(["x", "*"]).unwrap();
        assert!(all.cover_all() && all.cover("anything") && !Patterns::none().cover("x"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["", "a*b", "**", "*a", ".hidden", "a b", "a/b", "é*", &"x".repeat(MAX_BYTES + 1)] {
            assert!(Patterns::parse([wrong]).is_err(), "{wrong}");
        }
        assert!(Patterns::parse(vec!["a"; MAX_PATTERNS + 1]).is_err());
    }
}

//! Passages on the command line: the flags for their sizes, and the mark on the one that matched.

use console::style;

use super::table;
use crate::wire::{Hit, Passage, Passages};

/// Characters before the passage that a terminal shows.
const BEFORE: usize = 24;

/// The sizes of passages.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Sizes {
    /// Most tokens of a passage [default: all that the model reads]
    #[arg(long, value_name = "N")]
    passage_tokens: Option<u32>,
    /// Tokens that a passage repeats from the end of the one before it, at most [default: an eighth of a passage]
    #[arg(long, value_name = "N")]
    overlap_tokens: Option<u32>,
}

impl Sizes {
    /// The first of these flags that was given.
    pub fn given(self) -> Option<&'static str> {
        let tokens = self.passage_tokens.map(|_| "--passage-tokens");
        tokens.or_else(|| self.overlap_tokens.map(|_| "--overlap-tokens"))
    }

    /// The setting of a request.
    pub fn wire(self) -> Passages {
        Passages {
            enabled: Some(true),
            max_tokens: self.passage_tokens.unwrap_or_default(),
            overlap_tokens: self.overlap_tokens,
        }
    }
}

/// The text of a hit, with its nearest passage marked: by style on a terminal, by brackets elsewhere. A terminal shows
/// little of the text before it, because the line is cut at its end.
pub fn marked(hit: &Hit) -> String {
    let parts = hit.passage.as_ref().and_then(|passage| parts(&hit.text, passage));
    let Some((before, passage, after)) = parts else { return table::clean(&hit.text) };
    let (before, passage, after) = (table::clean(before), table::clean(passage), table::clean(after));
    let space = |text: &str| if text.is_empty() { "" } else { " " };
    let (before, after) = (before.trim_end(), after.trim_start());
    if !console::colors_enabled() || table::stdout_width().is_none() {
        return format!("{before}{}[[{passage}]]{}{after}", space(before), space(after));
    }
    let shown = before.char_indices().rev().nth(BEFORE).map_or(0, |(at, _)| at);
    // Begins with a whole word.
    let shown = if shown == 0 { 0 } else { before[shown..].find(' ').map_or(before.len(), |space| shown + space + 1) };
    let ellipsis = if shown > 0 { "…" } else { "" };
    let (before, passage) = (&before[shown..], style(passage).bold());
    format!("{ellipsis}{before}{}{passage}{}{after}", space(before), space(after))
}

/// The text of a further passage of a hit.
pub fn text(hit: &Hit, passage: &Passage) -> String {
    parts(&hit.text, passage).map_or_else(String::new, |(_, passage, _)| table::clean(passage))
}

/// A text before, in and after a passage.
fn parts<'t>(text: &'t str, passage: &Passage) -> Option<(&'t str, &'t str, &'t str)> {
    let (start, end) = (passage.start as usize, passage.end as usize);
    Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_is_marked_in_its_text() {
        let hit = |start, end| {
            let passage = Passage { start, end, ..Default::default() };
            Hit { text: "One.\nTwo here. Three.".into(), passage: Some(passage), ..Default::default() }
        };
        assert_eq!(marked(&hit(5, 14)), "One. [[Two here.]] Three.");
        assert_eq!(marked(&hit(0, 4)), "[[One.]] Two here. Three.");
        assert_eq!(marked(&hit(15, 21)), "One. Two here. [[Three.]]");
        assert_eq!(marked(&hit(15, 99)), "One. Two here. Three.", "of another text");
        assert_eq!(marked(&Hit { text: "a\nb".into(), ..Default::default() }), "a b");
        assert_eq!(text(&hit(0, 4), &Passage { start: 5, end: 14, ..Default::default() }), "Two here.");
    }
}

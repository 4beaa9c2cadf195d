//! Tables and score bars for people.
//!
//! On a terminal, lines are cut to its width and scores are coloured (unless `NO_COLOR` is set). Elsewhere nothing
//! is cut or coloured. Texts of documents are stripped of control characters, so that they cannot move the cursor
//! or end a row.

use std::borrow::Cow;
use std::io::{self, Write};

use console::{Term, measure_text_width, style, truncate_str};

/// Cells of a score bar.
pub const BAR_CELLS: usize = 16;
/// Width to which texts in the middle of a table are cut on a terminal.
const MIDDLE_CELLS: usize = 32;

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Left, for words.
    Left,
    /// Right, for numbers.
    Right,
}

/// Rows under a header. The last column may be long; it is cut to the rest of the terminal's width.
#[derive(Debug)]
pub struct Table {
    names: Vec<String>,
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table with these columns. Without names there is no header.
    pub fn new<N: Into<String>>(columns: impl IntoIterator<Item = (N, Align)>) -> Self {
        let (names, aligns) = columns.into_iter().map(|(name, align)| (name.into(), align)).unzip();
        Self { names, aligns, rows: Vec::new() }
    }

    /// Adds a row, with one cell per column.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        debug_assert_eq!(cells.len(), self.aligns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// Writes the table for a terminal of `width` cells; `None` if it is not a terminal.
    pub fn write(&self, out: &mut impl Write, width: Option<usize>) -> io::Result<()> {
        let named = self.names.iter().any(|name| !name.is_empty());
        let header = named.then(|| self.names.iter().map(|name| style(name).dim().to_string()).collect::<Vec<_>>());
        let lines: Vec<&Vec<String>> = header.iter().chain(&self.rows).collect();
        let last = self.aligns.len().saturating_sub(1);
        let widths: Vec<usize> = (0..self.aligns.len())
            .map(|column| {
                let widest = lines.iter().map(|cells| measure_text_width(&cells[column])).max().unwrap_or(0);
                if width.is_some() && column != last { widest.min(MIDDLE_CELLS) } else { widest }
            })
            .collect();
        for cells in &lines {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                if column > 0 {
                    line.push_str("  ");
                }
                let cut = cut(cell, (column != last && width.is_some()).then_some(widths[column]));
                let gap = " ".repeat(widths[column].saturating_sub(measure_text_width(&cut)));
                match self.aligns[column] {
                    Align::Left if column == last => line.push_str(&cut),
                    Align::Left => line.extend([&*cut, &gap]),
                    Align::Right => line.extend([&*gap, &cut]),
                }
            }
            writeln!(out, "{}", cut(&line, width).trim_end())?;
        }
        Ok(())
    }
}

/// Width of a line on standard output; `None` if it is not a terminal.
pub fn stdout_width() -> Option<usize> {
    let term = Term::stdout();
    term.is_term().then(|| term.size().1.into())
}

/// Makes a text fit for a cell: each run of control characters becomes a space.
pub fn clean(text: &str) -> String {
    let words = text.split(|c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A cosine similarity as text: `0.8213`.
pub fn score(score: f32) -> String {
    format!("{score:.4}")
}

/// A bar of [`BAR_CELLS`] cells for a similarity: empty at 0 and below, full at 1.
pub fn score_bar(score: f32) -> String {
    let bar = bar(score, BAR_CELLS);
    match score {
        score if score >= 0.6 => style(bar).green().to_string(),
        score if score >= 0.4 => style(bar).yellow().to_string(),
        _ => style(bar).dim().to_string(),
    }
}

/// A bar in eighths of a cell, padded to `cells`.
fn bar(share: f32, cells: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    // `as` saturates, and converts NaN to 0.
    let eighths = ((share * (cells * 8) as f32).round() as usize).min(cells * 8);
    let mut bar = "█".repeat(eighths / 8);
    let rest = eighths % 8;
    if rest > 0 {
        bar.push(EIGHTHS[rest]);
    }
    let drawn = eighths.div_ceil(8);
    bar.extend(std::iter::repeat_n(' ', cells - drawn));
    bar
}

/// A number with separated thousands: `1,234,567`.
pub fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// Bytes in a suitable unit: `1.50 MiB`.
pub fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

fn cut(text: &str, width: Option<usize>) -> Cow<'_, str> {
    width.map_or(Cow::Borrowed(text), |width| truncate_str(text, width, "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table, width: Option<usize>) -> Vec<String> {
        let mut out = Vec::new();
        table.write(&mut out, width).unwrap();
        console::strip_ansi_codes(&String::from_utf8(out).unwrap()).lines().map(String::from).collect()
    }

    #[test]
    fn a_bar_grows_by_eighths_and_never_leaves_its_cells() {
        for (share, drawn) in [(0.0, "    "), (1.0 / 32.0, "▏   "), (0.5, "██  "), (0.97, "███▉"), (1.0, "████")]
        {
            assert_eq!(bar(share, 4), drawn, "{share}");
        }
        for outside in [-1.0, 1.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(bar(outside, 4).chars().count(), 4, "{outside}");
        }
        assert_eq!(bar(-0.5, 2), "  ");
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new([("n", Align::Right), ("name", Align::Left), ("text", Align::Left)]);
        table.row(["1", "東京", "wide"]);
        table.row(["100", "ab", "narrow"]);
        assert_eq!(written(&table, None), ["  n  name  text", "  1  東京  wide", "100  ab    narrow"]);
    }

    #[test]
    fn only_a_terminal_cuts_lines() {
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]);
        table.row(["id", "a long text that goes on"]);
        assert_eq!(written(&table, Some(12)), ["id  a long …"]);
        assert_eq!(written(&table, None), ["id  a long text that goes on"]);
    }

    #[test]
    fn a_text_cannot_end_its_row_or_command_the_terminal() {
        assert_eq!(clean("a\r\nb\tc\u{1b}[2Jd\u{202e}e"), "a b c [2Jd e");
        assert_eq!(clean("\n"), "");
    }
}

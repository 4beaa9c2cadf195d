//! Recall against speed, as a plot of characters.
//!
//! Speed is drawn by its logarithm: the scan is a hundred times slower than a walk. It has no colour and a fixed size,
//! so that it can be pasted anywhere.

use crate::cli::table;

/// Rows and columns of cells that points lie in. With the axes, 14 lines of at most 76 characters.
const ROWS: usize = 11;
const COLUMNS: usize = 60;
/// Cells of a number left of the axis.
const TICK: usize = 13;

/// A way of searching.
#[derive(Debug, Clone)]
pub struct Point {
    /// What stands beside it, if there is room.
    pub name: String,
    /// 0 to 1.
    pub recall: f64,
    /// Queries a second.
    pub rate: f64,
}

/// A number a second, with a decimal where it is small.
pub fn rate(rate: f64) -> String {
    if rate < 99.95 { format!("{rate:.1}") } else { table::count(rate.round() as u64) }
}

/// The lines of a plot; none if there are no points. `recall` is what the lower axis is called.
pub fn lines(recall: &str, points: &[Point]) -> Vec<String> {
    if points.is_empty() {
        return Vec::new();
    }
    let recalls = Span::of(points.iter().map(|point| point.recall), COLUMNS);
    let rates = Span::of(points.iter().map(|point| logarithm(point.rate)), ROWS);
    let mut cells = vec![[' '; COLUMNS]; ROWS];
    let at = |point: &Point| (ROWS - 1 - rates.cell(logarithm(point.rate)), recalls.cell(point.recall));
    for (row, column) in points.iter().map(at) {
        cells[row][column] = '*';
    }
    // Names where nothing else stands, so after all points.
    for point in points {
        let (row, column) = at(point);
        write_beside(&mut cells[row], column, &point.name);
    }

    let mut lines = vec![format!("{:>TICK$}", "queries/s")];
    for (row, cells) in cells.iter().enumerate() {
        let tick = rates.tick(ROWS - 1 - row).map(|value| rate(value.exp())).unwrap_or_default();
        let edge = if tick.is_empty() { '│' } else { '┤' };
        let cells: String = cells.iter().collect();
        lines.push(format!("{tick:>TICK$} {edge}{}", cells.trim_end()));
    }
    lines.push(format!("{:>TICK$} └{}", "", "─".repeat(COLUMNS)));
    let ends =
        [0, COLUMNS - 1].map(|column| recalls.tick(column).map(|value| format!("{value:.4}")).unwrap_or_default());
    let name = match recalls.tick(COLUMNS / 2) {
        // All points have one recall: it stands below them.
        Some(only) if ends[0].is_empty() => format!("{recall} {only:.4}"),
        _ => recall.to_owned(),
    };
    let [from, to] = ends;
    let between = COLUMNS - from.len() - to.len();
    lines.push(format!("{:>TICK$}  {from}{name:^between$}{to}", "").trim_end().to_owned());
    lines
}

/// Of a rate, which may be 0 where a clock is coarse.
fn logarithm(rate: f64) -> f64 {
    rate.max(1e-3).ln()
}

/// The values that a number of cells stand for.
struct Span {
    least: f64,
    most: f64,
    cells: usize,
}

impl Span {
    fn of(values: impl Iterator<Item = f64> + Clone, cells: usize) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        Self { least, most: values.fold(f64::NEG_INFINITY, f64::max), cells }
    }

    /// Where a value of the span lies; in the middle if there is only one.
    fn cell(&self, value: f64) -> usize {
        if self.most <= self.least {
            return self.cells / 2;
        }
        let share = (value - self.least) / (self.most - self.least);
        ((share * (self.cells - 1) as f64).round() as usize).min(self.cells - 1)
    }

    /// What a cell stands for, if a number belongs there: at both ends and in the middle, or in the middle alone.
    fn tick(&self, cell: usize) -> Option<f64> {
        let only = self.most <= self.least;
        let middle = self.cells / 2;
        let has_tick = cell == middle || (!only && (cell == 0 || cell == self.cells - 1));
        let share = if only { 0.0 } else { cell as f64 / (self.cells - 1) as f64 };
        has_tick.then_some(self.least + share * (self.most - self.least))
    }
}

/// Writes a name right of a cell, else left of it, where it touches nothing else; nowhere if there is no such place.
fn write_beside(cells: &mut [char], column: usize, name: &str) {
    let length = name.chars().count();
    let is_free = |from: usize, to: usize| to <= cells.len() && cells[from..to].iter().all(|&cell| cell == ' ');
    let right = column + 1;
    let from = if is_free(right, right + length) && is_free(right, (right + length + 1).min(cells.len())) {
        right
    } else if column >= length && is_free((column - length).saturating_sub(1), column) {
        column - length
    } else {
        return;
    };
    cells[from..].iter_mut().zip(name.chars()).for_each(|(cell, character)| *cell = character);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(name: &str, recall: f64, rate: f64) -> Point {
        Point { name: name.to_owned(), recall, rate }
    }

    fn stars(lines: &[String]) -> usize {
        lines.iter().map(|line| line.matches('*').count()).sum()
    }

    #[test]
    fn points_stand_where_their_values_are() {
        let points = [point("16", 0.8, 10_000.0), point("64", 0.9, 1_000.0), point("exact", 1.0, 100.0)];
        let lines = lines("recall@10", &points);
        assert_eq!(lines[0], "    queries/s");
        assert_eq!(lines[1], "       10,000 ┤*16");
        assert!(lines[6].starts_with("        1,000 ┤") && lines[6].ends_with("*64"), "{lines:#?}");
        assert!(lines[11].starts_with("          100 ┤"), "{lines:#?}");
        // No room on its right.
        assert!(lines[11].ends_with(" exact*"), "{lines:#?}");
        let below = lines[13].trim();
        assert!(below.starts_with("0.8000") && below.contains("recall@10") && below.ends_with("1.0000"), "{below}");
    }

    #[test]
    fn one_point_and_equal_points_stand_in_the_middle() {
        for points in [vec![point("16", 0.5, 200.0)], vec![point("16", 0.5, 200.0); 3]] {
            let lines = lines("recall@1", &points);
            assert_eq!(stars(&lines), 1);
            assert_eq!(lines[6].find('*').map(|at| lines[6][..at].chars().count()), Some(TICK + 2 + COLUMNS / 2));
            assert!(lines[6].starts_with("          200 ┤"), "{lines:#?}");
            assert!(lines[13].contains("recall@1 0.5000"), "{lines:#?}");
        }
        assert!(lines("recall@1", &[]).is_empty());
    }

    #[test]
    fn names_stay_off_points_and_other_names() {
        let mut cells: Vec<char> = "    *  *    *".chars().collect();
        write_beside(&mut cells, 4, "123");
        assert_eq!(cells.iter().collect::<String>(), " 123*  *    *");
        write_beside(&mut cells, 7, "12345");
        assert_eq!(cells.iter().collect::<String>(), " 123*  *    *");
        write_beside(&mut cells, 7, "123");
        assert_eq!(cells.iter().collect::<String>(), " 123*  *123 *");
    }

    proptest! {
        #[test]
        fn a_plot_keeps_its_size_and_has_every_point(
            values in prop::collection::vec((0.0f64..=1.0, 0.0f64..1e9, 1usize..4_097), 1..40),
        ) {
            let points: Vec<Point> =
                values.iter().map(|&(recall, rate, ef)| point(&ef.to_string(), recall, rate)).collect();
            let lines = lines("recall@10", &points);
            prop_assert_eq!(lines.len(), 14);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= 76), "{:#?}", lines);
            let columns = Span::of(points.iter().map(|p| p.recall), COLUMNS);
            let rows = Span::of(points.iter().map(|p| logarithm(p.rate)), ROWS);
            let mut cells: Vec<_> =
                points.iter().map(|p| (ROWS - 1 - rows.cell(logarithm(p.rate)), columns.cell(p.recall))).collect();
            cells.sort_unstable();
            cells.dedup();
            prop_assert_eq!(stars(&lines), cells.len());
            for (row, column) in cells {
                prop_assert_eq!(lines[1 + row].chars().nth(TICK + 2 + column), Some('*'));
            }
        }
    }
}

//! The rules: no circles among files, the arrows among modules, the doors of crates, and the homes of `unsafe`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{Reference, Sources, Target, short, top_module};

/// A name, and everything that belongs to it.
pub type Table = BTreeMap<String, BTreeSet<String>>;

/// Reads the rows of the table in `text` whose head is `head`, by their first cell. Names stand in backticks; the rest
/// is prose. Crates have their names in code, and paths of sources are short.
pub fn table(text: &str, head: &str) -> Table {
    let mut lines = text.lines().skip_while(|line| *line != head);
    assert!(lines.next().is_some(), "ARCHITECTURE.md has no table with the head {head}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let name = |name: &str| short(name).unwrap_or_else(|| name.replace('-', "_"));
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(name).collect::<BTreeSet<String>>();
    let mut table = Table::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        assert!(cells.len() >= 3, "a row has two cells or more: {row}");
        for name in names(cells[1]) {
            assert!(table.insert(name.clone(), names(cells[2])).is_none(), "{name} has two rows under {head}");
        }
    }
    table
}

/// Finds circles of files: the shortest one in each group of files that lead to each other.
pub fn circles(sources: &Sources) -> Vec<String> {
    let mut graph: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Reference { from, path, to, is_test, .. } in sources.references() {
        if let (Target::File(to), false) = (to, is_test) {
            graph.entry(from).or_default().entry(to).or_insert(path);
        }
    }
    let (mut circles, mut reported) = (Vec::new(), BTreeSet::new());
    for file in graph.keys() {
        if let Some(circle) =
            shortest_circle(&graph, file).filter(|circle| !circle.iter().any(|f| reported.contains(f)))
        {
            let steps = circle.iter().zip(circle.iter().cycle().skip(1));
            let steps = steps.map(|(from, to)| format!("{from} uses {} of {to}", graph[from][to]));
            circles.push(steps.collect::<Vec<_>>().join(", "));
            reported.extend(circle);
        }
    }
    circles
}

fn shortest_circle(graph: &BTreeMap<String, BTreeMap<String, String>>, start: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for next in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                let mut circle = vec![file.to_owned()];
                while circle[circle.len() - 1] != start {
                    circle.push(came_from[circle[circle.len() - 1].as_str()].to_owned());
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

/// Finds uses of a module by one that must not use it, and rows that nothing needs. `arrows`: by module, the modules
/// that it may use.
pub fn turned_arrows(sources: &Sources, arrows: &Table) -> Vec<String> {
    let mut unused = arrows.clone();
    let modules = sources.top_modules();
    let is_part = |name: &str| modules.contains(name) && name != "lib";
    let mut faults = Vec::new();
    for Reference { from, path, module, .. } in sources.references() {
        let (of, Some(to)) = (top_module(&from), module) else { continue };
        if of == to || !is_part(of) || !is_part(&to) {
            continue;
        }
        if arrows.get(of).is_some_and(|allowed| allowed.contains(&to)) {
            unused.get_mut(of).map(|unused| unused.remove(&to));
        } else {
            faults.push(format!("{from} uses {path}: {of} must not use {to}"));
        }
    }
    faults.extend(
        modules
            .iter()
            .filter(|name| is_part(name) && !arrows.contains_key(**name))
            .map(|name| format!("the module {name} has no row")),
    );
    faults.extend(pairs(&unused).map(|(from, to)| format!("{from} may use {to}, and does not")));
    faults
}

/// Finds crates that are named outside their doors, and doors that nothing uses. `doors`: by crate, the short names of
/// the files or folders that may name it.
pub fn broken_doors(sources: &Sources, doors: &Table) -> Vec<String> {
    let mut unused = doors.clone();
    let mut faults = Vec::new();
    for Reference { from, path, to, .. } in sources.references() {
        let Target::Crate(name) = to else { continue };
        let Some((name, doors)) = doors.get_key_value(&name) else { continue };
        match doors.iter().find(|door| is_within(&from, door)) {
            Some(door) => drop(unused.get_mut(name).map(|unused| unused.remove(door))),
            None => faults.push(format!("{from} uses {path}: it is no door of {name}")),
        }
    }
    faults.extend(pairs(&unused).map(|(name, door)| format!("{door} is a door of {name}, and does not use it")));
    faults
}

/// Finds files with `unsafe` outside its homes, which are modules.
pub fn homeless_unsafe(sources: &Sources, homes: &[&str]) -> Vec<String> {
    let homeless = sources.unsafe_files().into_iter().filter(|file| !homes.contains(&top_module(file)));
    homeless.map(|file| format!("{file} is unsafe")).collect()
}

/// True if `door` is the file, a folder around it, or the file of a module that contains it.
fn is_within(file: &str, door: &str) -> bool {
    let module = door.strip_suffix(".rs").map(|module| format!("{module}/"));
    file == door
        || (door.ends_with('/') && file.starts_with(door))
        || module.is_some_and(|module| file.starts_with(&module))
}

fn pairs(table: &Table) -> impl Iterator<Item = (&String, &String)> {
    table.iter().flat_map(|(name, others)| others.iter().map(move |other| (name, other)))
}

//! Checks the rules of ARCHITECTURE.md about the uses between modules, on the sources.
//!
//! **No circles among files.** A file uses another if it imports an item that the other defines, or names one by its
//! path. `mod child;`, the import of a whole module and `pub use` are signposts, not uses: a file that names an item
//! through them uses the file that defines the item. So a child may use its parent, or the parent its child, but not
//! both. A `mod.rs` that only declares and passes on is in no circle. Code that is compiled for tests alone may use
//! every file.
//!
//! **Arrows** among the root's modules, **doors** of other crates, and the homes of `unsafe`: here tests count too.
//! Arrows and doors are read from the tables of ARCHITECTURE.md, so that the two cannot disagree. A row that nothing
//! needs is a fault.
//!
//! `made_up` tests `rules` on made-up sources that break each rule. `source` has tests for the ways to name things.

mod made_up;
mod rules;
mod source;

use std::path::Path;

use rules::table;
use source::Sources;

const ARROWS: &str = "| Module | may use |";
const DOORS: &str = "| Crate | Door |";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_file_uses_itself_by_way_of_others() {
    assert_none(&rules::circles(&Sources::read(root())));
}

#[test]
fn modules_use_each_other_as_architecture_md_says() {
    assert_none(&rules::turned_arrows(&Sources::read(root()), &table(&document(), ARROWS)));
}

#[test]
fn each_heavy_crate_is_named_behind_its_doors_alone() {
    assert_none(&rules::broken_doors(&Sources::read(root()), &table(&document(), DOORS)));
}

#[test]
fn only_kernel_and_machine_are_unsafe() {
    assert_none(&rules::homeless_unsafe(&Sources::read(root()), &["kernel", "machine"]));
}

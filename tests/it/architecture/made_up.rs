//! Tests of the rules on a few made-up files: each fails on a breach, and holds otherwise.

use super::rules::{Table, broken_doors, circles, homeless_unsafe, table, turned_arrows};
use super::source::Sources;

fn sources(files: &[(&str, &str)]) -> Sources {
    Sources::parse(files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())))
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    circles(&sources(files))
}

fn rows(rows: &[(&str, &[&str])]) -> Table {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    rows.iter().map(|(name, others)| ((*name).to_owned(), names(others))).collect()
}

#[test]
fn a_circle_through_grouped_imports_is_found_and_told() {
    let found = circles_of(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::{b::{self, B}, c::Other}; pub struct A(B, Other);"),
        ("b.rs", "use {crate::c::{C as Renamed}, std::fmt}; pub struct B(Renamed);"),
        ("c.rs", "pub struct C(crate::a::A); pub struct Other;"),
    ]);
    // This is the shortest circle: the other one leads through b.
    assert_eq!(found, ["a.rs uses Other of c.rs, c.rs uses crate::a::A of a.rs"]);
}

#[test]
fn a_circle_through_super_and_self_is_found() {
    let found = circles_of(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; mod c; pub struct A(self::b::B);"),
        ("a/b.rs", "use super::c::C; pub struct B(C);"),
        ("a/c.rs", "mod inner { pub fn f() -> Option<super::super::A> { None } } pub struct C;"),
    ]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("a/c.rs uses super::super::A of a/mod.rs"), "{found:?}");
}

#[test]
fn circles_through_globs_macros_attributes_and_bodies_are_found() {
    for user in [
        "use crate::b::*; pub struct A;",
        "pub struct A; fn f() -> usize { crate::b::N }",
        "pub struct A; fn f() { use crate::b::N; }",
        "pub struct A; fn f() -> String { format!(\"{} \\\"{}\", 1, crate::b::N) }",
        "use crate::b; pub struct A; fn f() -> usize { b::N }",
        "#[error(\"{}\", crate::b::N)] pub struct A;",
        "use crate::passed_on::N as M; pub struct A([u8; M]);",
    ] {
        let found = circles_of(&[
            ("lib.rs", "mod a; mod b; mod passed_on;"),
            ("a.rs", user),
            ("b.rs", "pub const N: usize = 1; fn f(_: crate::a::A) {}"),
            ("passed_on.rs", "pub use crate::b::*;"),
        ]);
        assert_eq!(found.len(), 1, "{user}: {found:?}");
    }
}

#[test]
fn a_parent_and_its_child_are_a_circle_only_if_each_uses_the_other() {
    let child = ("a/b.rs", "use super::A; pub struct B(A);");
    let passes_on = [("lib.rs", "mod a;"), ("a.rs", "mod b; pub use b::B; pub struct A;"), child];
    assert_eq!(circles_of(&passes_on), [""; 0]);
    for uses in ["mod b; pub use b::B; pub struct A; fn f(_: &B) {}", "mod b; pub struct A; fn f(_: &b::B) {}"] {
        assert_eq!(circles_of(&[("lib.rs", "mod a;"), ("a.rs", uses), child]).len(), 1, "{uses}");
    }
}

#[test]
fn an_item_that_is_passed_on_is_of_the_file_that_defines_it() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; mod c; pub use b::B; pub use c::C;"),
        ("a/b.rs", "pub struct B;"),
        ("a/c.rs", "use super::B; pub struct C(B);"),
    ];
    assert_eq!(circles_of(&files), [""; 0]);
}

#[test]
fn tests_may_look_everywhere() {
    let files = [
        ("lib.rs", "mod a; #[cfg(test)] mod tests; #[cfg(not(test))] mod b;"),
        ("a.rs", "pub struct A; #[cfg(test)] mod tests { use super::*; use crate::b::B; }"),
        ("b.rs", "pub struct B(crate::a::A);"),
        ("tests.rs", "pub fn f() -> crate::b::B { todo!() } "),
    ];
    assert_eq!(circles_of(&files), [""; 0]);
}

#[test]
fn a_turned_arrow_a_missing_row_and_a_row_that_nobody_needs_are_faults() {
    let sources = sources(&[
        ("lib.rs", "mod high; mod low; mod new;"),
        ("high/mod.rs", "mod deep; use crate::low::Low; pub struct High(Low);"),
        ("high/deep.rs", "#[cfg(test)] mod tests { use super::super::super::new::New; }"),
        ("low.rs", "pub use crate::{high::High as Above}; pub struct Low;"),
        ("new.rs", "pub struct New;"),
    ]);
    let found = turned_arrows(&sources, &rows(&[("high", &["low"]), ("low", &["new"])]));
    assert_eq!(
        found,
        [
            "high/deep.rs uses super::super::super::new::New: high must not use new",
            "low.rs uses crate::high::High: low must not use high",
            "the module new has no row",
            "low may use new, and does not",
        ]
    );
    assert_eq!(turned_arrows(&sources, &rows(&[("high", &["low", "new"]), ("low", &["high"]), ("new", &[])])), [""; 0]);
}

#[test]
fn the_clients_crate_is_the_parts_client_and_wire() {
    let found = |wire: &str| {
        let sources = sources(&[
            ("lib.rs", "mod cli; pub mod wire; pub use cognate_client as client;"),
            ("cli.rs", "use crate::{client::Client, wire::W}; struct Cli(Client, W);"),
            ("wire.rs", "pub use ::cognate_client::wire::*; pub const DESCRIPTORS: usize = 1;"),
            ("client/mod.rs", "pub mod wire; mod key; use wire::W; pub struct Client(W, key::Key);"),
            ("client/key.rs", "pub struct Key(super::wire::W, crate::wire::W);"),
            ("wire/mod.rs", wire),
        ]);
        turned_arrows(&sources, &rows(&[("cli", &["client", "wire"]), ("client", &["wire"]), ("wire", &[])]))
    };
    assert_eq!(found("pub struct W;"), [""; 0]);
    for path in ["crate::Client", "super::Client", "crate::key::Key"] {
        let fault = format!("wire/mod.rs uses {path}: wire must not use client");
        assert_eq!(found(&format!("pub struct W({path});")), [fault]);
    }
}

#[test]
fn a_crate_outside_of_its_doors_and_a_door_that_nobody_needs_are_faults() {
    let sources = sources(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a/one.rs", "use {heavy::Thing as Other, std::io};"),
        ("b.rs", "fn f() { let x = vec![heavy::thing()]; }"),
        ("c/mod.rs", "mod heavy { pub struct Own; } use heavy::Own; fn f(heavy: usize) -> usize { heavy }"),
    ]);
    let found = broken_doors(&sources, &rows(&[("heavy", &["a/", "c/"])]));
    assert_eq!(found, ["b.rs uses heavy::thing: it is no door of heavy", "c/ is a door of heavy, and does not use it"]);
    assert_eq!(broken_doors(&sources, &rows(&[("heavy", &["a/", "b.rs"])])), [""; 0]);
}

#[test]
fn unsafe_away_from_home_is_a_fault() {
    let fault = |code| homeless_unsafe(&sources(&[("a.rs", code), ("home/b.rs", "unsafe fn f() {}")]), &["home"]).len();
    for code in [
        "fn f() { unsafe { g() } }",
        "unsafe fn f() {}",
        "struct S; impl S { unsafe fn f(&self) {} }",
        "struct S; unsafe impl Send for S {}",
        "unsafe trait T {}",
        "macro_rules! m { () => { unsafe { g() } } }",
        "#![allow(unsafe_code)]",
    ] {
        assert_eq!(fault(code), 1, "{code}");
    }
    assert_eq!(fault("//! unsafe\n#![deny(unsafe_code)] fn f() { let _ = \"unsafe\"; }"), 0);
}

#[test]
fn tables_are_read_by_their_heads() {
    let text = "# A\n\n| x | y |\n| --- | --- |\n| `a`, `b` | `c`, for a reason, `d` |\n\
                | `e-e` | `src/f-f/`, nothing else |\n\n| `f` | `g` |\n";
    assert_eq!(table(text, "| x | y |"), rows(&[("a", &["c", "d"]), ("b", &["c", "d"]), ("e_e", &["f-f/"])]));
}

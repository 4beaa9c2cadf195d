//! The contract as buf reads it: `proto/buf.yaml` has the rules, and `proto/released.binpb` is the contract of the last
//! release, which clients have generated their code from. CONTRIBUTING.md says when it is renewed. buf has no rule
//! about words that languages reserve, so the names of fields are compared with them here.

use std::process::Command;

use crate::installed::{buf, repository, run, stderr};

/// Runs buf in `proto/`. It prints faults to stdout, and fails if there are any.
fn finds_nothing(words: &[&str]) {
    let mut command = Command::new(buf());
    let output = run(command.current_dir(repository().join("proto")).args(words), String::new());
    let output = output.expect("buf was installed");
    assert!(output.status.success(), "buf {words:?}:\n{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
}

#[test]
#[ignore = "needs Node.js and its package registry: cargo test -- --ignored"]
fn the_contract_has_the_form_that_generators_of_code_expect() {
    finds_nothing(&["lint"]);
    finds_nothing(&["format", "--diff", "--exit-code"]);
}

#[test]
#[ignore = "needs Node.js and its package registry: cargo test -- --ignored"]
fn the_contract_breaks_no_code_that_was_generated_from_the_last_release() {
    finds_nothing(&["breaking", "--against", "released.binpb"]);
}

/// Words that Python, C++, Rust, Swift or Kotlin reserve, where a field's name becomes an identifier as it is.
const RESERVED: &str = "
    False None True and as assert async await break class continue def del elif else except finally for from global if
    import in is lambda nonlocal not or pass raise return try while with yield
    alignas alignof and_eq asm auto bitand bitor bool case catch char compl concept const consteval constexpr constinit
    const_cast co_await co_return co_yield decltype default delete do double dynamic_cast enum explicit export extern
    false float friend goto inline int long mutable namespace new noexcept not_eq nullptr operator or_eq private
    protected public register reinterpret_cast requires short signed sizeof static static_assert static_cast struct
    switch template this thread_local throw true typedef typeid typename union unsigned using virtual void volatile
    wchar_t xor xor_eq
    abstract become box crate dyn final fn gen impl let loop macro match mod move mut override priv pub ref self super
    trait type typeof unsafe unsized use where
    associatedtype deinit extension fileprivate func guard init inout internal is nil protocol repeat rethrows subscript
    throws var
    fun interface null object package val when";

#[test]
fn no_field_of_the_contract_has_a_name_that_a_language_reserves() {
    let text = std::fs::read_to_string(repository().join("proto/cognate/v1/cognate.proto")).unwrap();
    let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with("option "));
    let fields: Vec<_> = code
        .filter_map(|line| line.split_once(" = "))
        .filter(|(_, number)| number.starts_with(|c: char| c.is_ascii_digit()))
        .filter_map(|(field, _)| field.rsplit(' ').next())
        .collect();
    assert!(fields.len() > 200 && fields.contains(&"all_of"), "{}", fields.len());
    for field in fields {
        assert!(RESERVED.split_whitespace().all(|word| word != field), "{field}");
    }
}

#[test]
fn no_message_of_the_contract_is_inside_another_one() {
    // Go, Ruby and others join the names with `_` or `.`, each in its own way.
    for file in ["cognate/v1/cognate.proto", "tei/v1/tei.proto"] {
        let text = std::fs::read_to_string(repository().join("proto").join(file)).unwrap();
        let inside = text.lines().filter(|line| line.starts_with(' ')).map(str::trim_start);
        let inside: Vec<_> = inside.filter(|line| line.starts_with("message ") || line.starts_with("enum ")).collect();
        assert!(inside.is_empty() && text.contains("\nmessage "), "{file}: {inside:?}");
    }
}

//! The documents: every file that they link to or name is there.

use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let in_docs = files(&root.join("docs")).chain(files(&root.join("clients")));
    let of_clients = files(&root.join("clients")).map(|client| client.join("README.md")).filter(|path| path.exists());
    let at_the_top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root.join(name));
    let at_the_top = at_the_top.into_iter().chain(of_clients);
    at_the_top.chain(in_docs.filter(|path| path.extension().is_some_and(|ext| ext == "md"))).collect()
}

/// The targets of `[text](target)` that are files, relative to the document; anchors are cut off.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).filter_map(|target| target.split('#').next())
}

/// Names such as `src/main.rs`, relative to the root or to the document: in backquotes, of the folders of the sources.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let folders = ["src/", "clients/", "tests/", "benches/", "docs/", "deploy/", "proto/", "models/", "examples/"];
    quoted
        .filter(move |name| folders.iter().any(|folder| name.starts_with(folder)))
        // Patterns, placeholders, and names with arguments are no names of files.
        .filter(|name| !name.contains([' ', '*', '<', '{', ':']) && !name.chars().any(|c| c.is_ascii_uppercase()))
}

#[test]
fn every_link_and_every_name_of_a_file_leads_to_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    let mut found = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        let linked = links(&text).map(|link| (link, folder.join(link)));
        for (name, path) in linked.chain(names(&text).map(|name| (name, root.join(name)))) {
            found += 1;
            if !path.exists() && !folder.join(name).exists() {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(found > 100, "{found}");
}

#[test]
fn each_call_is_in_the_documents_and_has_its_method_in_the_client_for_rust() {
    let files = FileDescriptorSet::decode(cognate::wire::DESCRIPTORS).unwrap().file;
    let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let names: Vec<&str> = methods.map(|method| method.name()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (api, retrieval) = (text("docs/api.md"), text("docs/retrieval.md"));
    let client = text("clients/rust/src/lib.rs") + &text("clients/rust/src/upload.rs");
    let (_, rest) = api.split_once("## The calls").expect("a section");
    let (table, _) = rest.split_once("## ").expect("a section behind it");
    assert!(!names.is_empty());
    for name in names {
        assert!(table.contains(&format!("`{name}`")), "the table of docs/api.md lacks {name}");
        let line = |text: &str| text.contains(&format!("cognate.v1.Cognate/{name}"));
        assert!(line(&api) || line(&retrieval), "neither docs/api.md nor docs/retrieval.md calls {name} by grpcurl");
        let method = name.chars().fold(String::new(), |mut method, c| {
            method.extend((c.is_uppercase() && !method.is_empty()).then_some('_'));
            method.extend(c.to_lowercase());
            method
        });
        // `upload` has type parameters.
        let is_there = client.contains(&format!("{method}(")) || client.contains(&format!("fn {method}<"));
        assert!(is_there, "clients/rust has no method {method}");
    }
}

#[test]
fn links_and_names_are_found() {
    let text = "a [link](docs/x.md#part), [one](https://example.org/), `src/a.rs`, `src/FILE`, `cognate x`, `src/`";
    assert_eq!(links(text).collect::<Vec<_>>(), ["docs/x.md"]);
    assert_eq!(names(text).collect::<Vec<_>>(), ["src/a.rs", "src/"]);
}

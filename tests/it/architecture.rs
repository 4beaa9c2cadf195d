//! The arrows of ARCHITECTURE.md, checked: who may know whom, and each heavy crate's door.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates, and the places that may name them in code.
const DOORS: &[(&str, &[&str])] = &[
    ("tonic", &["src/rpc/", "src/server/", "src/client/", "src/wire/"]),
    ("tonic_types", &["src/rpc/", "src/server/", "src/client/"]),
    ("tonic_health", &["src/server/", "src/client/"]),
    ("tonic_reflection", &["src/server/"]),
    ("h2", &["src/server/"]),
    ("flate2", &["src/server/unpack.rs"]),
    ("zstd", &["src/server/unpack.rs"]),
    ("prost", &["src/rpc/", "src/client/", "src/wire/", "src/server/methods.rs"]),
    ("clap", &["src/cli/", "src/config/flags.rs"]),
    ("hnsw_rs", &["src/index/graph/build.rs"]),
    ("redb", &["src/collection/disk/"]),
    ("hf_hub", &["src/model/hub.rs", "src/model/hub/"]),
    ("tokenizers", &["src/inference/tokenizer.rs"]),
    ("candle_core", &["src/embedder/"]),
    ("candle_transformers", &["src/embedder/"]),
    ("ort", &["src/onnx/onnxruntime.rs", "src/onnx/onnxruntime/"]),
    ("rten", &["src/onnx/rten_runtime.rs"]),
    ("memmap2", &["src/machine/mapping.rs"]),
    ("mimalloc", &["src/main.rs"]),
];

/// Modules, and those of the crate that they may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("compute", &["machine"]),
    ("kernel", &["machine"]),
    ("machine", &[]),
    ("index", &["compute", "kernel", "machine"]),
    // A graph says which further files hold its weights, and they are a part of the model.
    ("model", &["onnx"]),
    ("onnx", &[]),
    ("inference", &["compute", "machine"]),
    ("embedder", &["compute", "inference", "model", "onnx", "kernel", "machine"]),
    ("classifier", &["compute", "embedder", "inference", "model", "onnx", "kernel", "machine"]),
    ("collection", &["compute", "index", "kernel", "machine"]),
    ("rpc", &["budget", "classifier", "collection", "compute", "embedder", "inference", "index", "kernel", "wire"]),
    ("server", &["budget", "compute", "machine", "rpc", "wire"]),
    ("client", &["wire"]),
    ("wire", &[]),
];

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join("src"), &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            let code = fs::read_to_string(&path).unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            (name, code)
        })
        .collect()
}

/// `code` names `path` followed by `::`, and not as the end of a longer name.
fn names(code: &str, path: &str) -> bool {
    let whole = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    code.match_indices(&format!("{path}::")).any(|(at, _)| whole(at))
}

#[test]
fn each_heavy_crate_has_one_door() {
    let sources = sources();
    for (krate, doors) in DOORS {
        let mut used = false;
        for (file, _) in sources.iter().filter(|(_, code)| names(code, krate)) {
            assert!(doors.iter().any(|door| file.starts_with(door)), "{file} names {krate}");
            used = true;
        }
        assert!(used, "nobody names {krate}: the list is out of date");
    }
}

#[test]
fn data_flows_one_way() {
    let modules = [
        "budget",
        "classifier",
        "cli",
        "client",
        "collection",
        "compute",
        "config",
        "embedder",
        "index",
        "inference",
        "kernel",
        "machine",
        "model",
        "onnx",
        "rpc",
        "server",
        "wire",
    ];
    for (file, code) in sources() {
        let Some((module, allowed)) = ARROWS.iter().find(|(module, _)| file.starts_with(&format!("src/{module}/")))
        else {
            continue;
        };
        for other in modules.iter().filter(|other| *other != module && !allowed.contains(other)) {
            assert!(!names(&code, &format!("crate::{other}")), "{file}, of {module}, uses {other}");
        }
    }
}

#[test]
fn only_kernel_and_machine_are_unsafe() {
    for (file, code) in sources() {
        let is_unsafe = code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl");
        assert!(!is_unsafe || file.starts_with("src/kernel/") || file.starts_with("src/machine/"), "{file} is unsafe");
    }
}

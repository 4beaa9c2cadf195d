//! The search in directories that the tests make.

use std::collections::HashMap;

use super::*;

/// Runs a check with these variables, without system directories and without Python.
fn with<T>(variables: &[(&str, &Path)], check: impl FnOnce(&Surroundings<'_>) -> T) -> T {
    let variables: HashMap<&str, OsString> = variables.iter().map(|(name, value)| (*name, (*value).into())).collect();
    let variable = |name: &str| variables.get(name).cloned();
    check(&Surroundings { variable: &variable, executable: None, system: Vec::new(), python: "/no/such/python" })
}

fn write(file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "").unwrap();
}

#[test]
fn locations_are_tried_in_order_and_relative_ones_never() {
    let root = tempfile::tempdir().unwrap();
    let environment = root.path().join("venv");
    let packages = environment.join("lib").join("python3.11").join("site-packages");
    fs::create_dir_all(&packages).unwrap();
    let paths = std::env::join_paths(["/first", "relative", "", "/second"]).unwrap();
    let set = [
        ("ORT_DYLIB_PATH", Path::new("/mine.so")),
        (LIBRARY_PATH, Path::new(&paths)),
        ("VIRTUAL_ENV", environment.as_path()),
        ("PYTHONPATH", Path::new("/packages")),
    ];
    let locations = with(&set, |surroundings| {
        let system = vec![PathBuf::from("/usr/lib")];
        let executable = Some(PathBuf::from("/opt/cognate/cognate"));
        search_path(&Surroundings { executable, system, ..*surroundings })
    });
    let directory = |path: &str| Location::Directory(path.into());
    let expected = [
        Location::Variable("/mine.so".into()),
        directory("/first"),
        directory("/second"),
        directory("/opt/cognate"),
        directory("/usr/lib"),
        Location::Packages(packages),
        Location::Packages("/packages".into()),
        Location::Python,
    ];
    assert_eq!(locations, expected);
}

#[test]
fn an_empty_variable_is_no_location() {
    let locations = with(&[("ORT_DYLIB_PATH", Path::new("")), ("VIRTUAL_ENV", Path::new(""))], search_path);
    assert_eq!(locations, [Location::Python]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_newest_library_of_a_directory_comes_first_and_others_do_not_come() {
    let root = tempfile::tempdir().unwrap();
    let named = ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.20.1"];
    let others = ["libonnxruntime_providers_shared.so", "libonnxruntime.so.1.20.1.bak", "libonnxruntime.a", "x.so"];
    for name in named.iter().chain(&others) {
        write(&root.path().join(name));
    }
    std::os::unix::fs::symlink("libonnxruntime.so.1.20.1", root.path().join("libonnxruntime.so")).unwrap();
    let files = within(root.path()).unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, [named[1], named[0]]);
}

#[test]
fn names_are_told_apart_from_similar_ones() {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    assert_eq!(numbers(&shared_name()), Some(vec![]));
    assert_eq!(numbers(&format!("{prefix}onnxruntime{suffix}.1.23.2")), Some(vec![1, 23, 2]));
    assert_eq!(numbers(&format!("{prefix}onnxruntime.1.23.2{suffix}")), Some(vec![1, 23, 2]));
    for other in ["onnxruntime_providers_shared", "onnxruntime4j", "onnx", "onnxruntime-1"] {
        assert_eq!(numbers(&format!("{prefix}{other}{suffix}")), None, "{other}");
    }
}

#[test]
fn a_given_directory_may_be_that_of_a_release() {
    let root = tempfile::tempdir().unwrap();
    let library = root.path().join("lib").join(shared_name());
    write(&library);
    let location = Location::Option(root.path().to_owned());
    assert_eq!(with(&[], |surroundings| location.files(surroundings)).unwrap(), [library]);
}

#[test]
fn a_location_without_the_library_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let absent = |location: Location| with(&[], |surroundings| location.files(surroundings)).unwrap_err().to_string();
    assert_eq!(absent(Location::Directory(root.path().join("no"))), "no such file or directory");
    assert!(absent(Location::Option(root.path().to_owned())).starts_with("a directory without "));
    assert_eq!(absent(Location::Packages(root.path().to_owned())), "the package onnxruntime is not installed");
    write(&root.path().join("onnxruntime").join("capi").join("_pybind_state.py"));
    assert!(absent(Location::Packages(root.path().to_owned())).contains("install version 1.19 or newer"));
    assert!(absent(Location::Python).starts_with("/no/such/python cannot be started"));
}

//! The data directory: it belongs to its user alone, and nothing in it is opened through a link.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Starts a server that must not start, and returns its messages.
fn refused(directory: &Path) -> String {
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_cognate"))
        .args(["serve", "--addr", "127.0.0.1:0", "--data-dir"])
        .arg(directory)
        .output()
        .expect("the binary was built with the tests");
    let said = String::from_utf8(stderr).expect("it writes UTF-8");
    assert!(!status.success(), "it started in {}: {said}", directory.display());
    said
}

#[test]
#[cfg(unix)]
fn links_in_the_data_directory_are_named_and_what_they_lead_to_is_untouched() {
    use std::os::unix::fs::symlink;
    let elsewhere = tempfile::tempdir().unwrap();
    let (file, numbered) = (elsewhere.path().join("file"), elsewhere.path().join("17"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&numbered).unwrap();
    fs::write(numbered.join("0000000001.new"), "precious").unwrap();
    for (name, target) in [("lock", file.as_path()), ("documents.redb", &file), ("index", elsewhere.path())] {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join(name);
        symlink(target, &link).unwrap();
        let said = refused(directory.path());
        assert!(said.contains(&link.display().to_string()) && said.contains("link"), "{said}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert_eq!(fs::read(numbered.join("0000000001.new")).unwrap(), b"precious");
}

#[test]
#[cfg(unix)]
fn a_data_directory_that_others_can_write_is_refused_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let said = refused(directory.path());
    assert!(said.contains("mode 0777") && said.contains("chmod go-w"), "{said}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was written there");
}

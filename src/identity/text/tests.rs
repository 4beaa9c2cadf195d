use super::*;

const ID: &str = "0123456789abcdef";
const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// An entry with these lines in addition to its id and its digest.
fn key(lines: &str) -> String {
    format!("[[keys]]\nid = \"{ID}\"\nsha256 = \"{DIGEST}\"\n{lines}\n")
}

fn mistakes(text: &str) -> String {
    KeyFile::parse(text).unwrap_err().to_string()
}

#[test]
fn a_file_names_principals_with_their_keys_and_certificates() {
    let text = format!(
        "# our keys\nversion = 1\n{}\n{}\n[[certificates]]\ncertificate = \"spiffe://prod/indexer\"\n\
         name = \"indexer\"\nrole = \"write\"\n",
        key("name = \"search\"\nrole = \"read\"\ncollections = [\"a-*\", \"b\"]\nexpires = 2027-01-31"),
        key("name = \"search\"\nrole = \"read\"\ncollections = [\"a-*\", \"b\"]\nrevoked = \"2026-01-31T00:00:00Z\"")
            .replace(ID, "fedcba9876543210"),
    );
    let file = KeyFile::parse(&text).unwrap();
    let [first, second] = &*file.keys else { panic!("{:?}", file.keys) };
    assert!(Arc::ptr_eq(&first.principal, &second.principal), "two keys of one name are one principal");
    assert_eq!(
        (first.principal.role(), first.principal.may_use("a-1"), first.principal.may_use("c")),
        (Role::Read, true, false)
    );
    assert_eq!(first.expires, Some(Moment::parse("2027-01-31").unwrap()));
    assert!(first.revoked.is_none() && second.revoked.is_some());
    assert_eq!(&text[..first.after_id].lines().last().unwrap(), &format!("id = \"{ID}\""));
    assert!(file.certificates[0].principal.may_use("anything"), "without patterns all collections are meant");
}

#[test]
fn each_mistake_is_told_with_its_line_and_entry() {
    let text = format!("version = 1\n{}quota = 3\n", key("name = \"a b\"\nrole = \"owner\"\ncollections = [\"a*b\"]"));
    let told = mistakes(&text);
    for part in [
        "line 5: keys[0].name: expected 1 to 64 letters",
        "line 6: keys[0].role: expected read, write or admin",
        "line 7: keys[0].collections: \"a*b\" is no pattern",
        "line 8: keys[0].quota is no field: name, id, sha256, ",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    assert!(mistakes("version = 1\n[[keys]]\nname = \"a\"").contains("line 2: keys[0].id is missing"));
    assert!(mistakes("version = 1\nkeys = 3").contains("expected entries that begin with [[keys]]"));
    assert!(mistakes("version = 1\n[[keys]\n").starts_with("line 2: not TOML"));
}

#[test]
fn another_version_is_refused_and_so_is_a_file_without_one() {
    assert_eq!(mistakes("version = 2\ncolour = 1").lines().count(), 1);
    assert!(mistakes("version = 2").contains("expected 1"));
    assert!(mistakes("version = \"1\"").contains("expected 1"));
    assert!(mistakes("").contains("version is missing"));
}

#[test]
fn entries_of_one_name_must_agree_and_ids_are_unique() {
    let first = key("name = \"a\"\nrole = \"read\"");
    let other = key("name = \"a\"\nrole = \"write\"").replace(ID, "fedcba9876543210");
    assert!(mistakes(&format!("version = 1\n{first}{other}")).contains("a has the role read"));
    assert!(mistakes(&format!("version = 1\n{first}{first}")).contains("for the second time"));
    let certificate = "[[certificates]]\ncertificate = \"Host.example\"\nname = \"a\"\nrole = \"read\"\n";
    let again = certificate.to_lowercase();
    assert!(mistakes(&format!("version = 1\n{certificate}{again}")).contains("host.example has two entries"));
}

#[test]
fn a_key_in_the_place_of_its_digest_is_not_quoted() {
    let key = crate::identity::NewKey::generate().unwrap().into_text();
    for text in [
        format!("version = 1\n[[keys]]\nid = \"{key}\"\nsha256 = \"{key}\"\nname = \"a\"\nrole = \"read\""),
        format!("version = 1\n[[keys]]\nid = {key}\n"),
        format!("version = 1\n[[keys]]\nid = \"{key}\nsha256 = '{key}"),
    ] {
        assert!(!mistakes(&text).contains(&key), "{}", mistakes(&text));
    }
}

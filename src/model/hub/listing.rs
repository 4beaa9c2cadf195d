//! Reads the hub's answer on a revision: its commit and its files.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use super::super::error::Reason;
use super::failure::problem;

/// A repository of ten thousand files has a list of about 2 MB. Nothing larger is a model's.
const MOST_BYTES: usize = 16 << 20;

/// The commit of a revision, and its files.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    /// 40 hexadecimal digits.
    #[serde(rename = "sha")]
    pub commit: String,
    #[serde(default, rename = "siblings")]
    files: Vec<File>,
}

/// A file of the repository.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct File {
    /// Its path in the repository.
    #[serde(rename = "rfilename")]
    pub name: String,
    /// Bytes; 0 where a mirror leaves it out.
    #[serde(default)]
    pub size: u64,
    /// The SHA-1 that git gives it.
    #[serde(default, rename = "blobId")]
    git_sha1: Option<String>,
    /// Present for a large file.
    #[serde(default)]
    lfs: Option<LargeFile>,
}

#[derive(Debug, Clone, Deserialize)]
struct LargeFile {
    #[serde(default)]
    sha256: Option<String>,
}

impl File {
    /// The name of its content in the cache, in hexadecimal digits. The hub sends the same as its `ETag`.
    pub(super) fn digest(&self) -> Option<&str> {
        let digest = match &self.lfs {
            Some(large) => large.sha256.as_deref().filter(|digest| digest.len() == 64),
            None => self.git_sha1.as_deref().filter(|digest| digest.len() == 40),
        };
        digest.filter(|digest| digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

impl Listing {
    fn parse(answer: &[u8]) -> Result<Self, Reason> {
        let listing: Self = serde_json::from_slice(answer)
            .map_err(|error| Reason::Hub { problem: format!("its list of files is not understood: {error}") })?;
        // The commit becomes a directory of the cache.
        if listing.commit.len() == 40 && listing.commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(listing)
        } else {
            let commit: String = listing.commit.chars().take(100).collect();
            Err(Reason::Hub {
                problem: format!("it names the commit {commit:?}, and 40 hexadecimal digits are expected"),
            })
        }
    }

    /// The files that one of the `patterns` matches, in the order of the hub. No pattern reaches outside of the
    /// repository: `*` matches no slash.
    pub(super) fn matching(&self, patterns: &[String]) -> Result<Vec<File>, Reason> {
        let patterns = glob_set(patterns).map_err(|error| Reason::Hub { problem: error.to_string() })?;
        Ok(self.files.iter().filter(|file| patterns.is_match(&file.name)).cloned().collect())
    }
}

fn glob_set(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
    }
    set.build()
}

/// Reads an answer, piece by piece up to [`MOST_BYTES`].
pub(super) async fn read(mut response: reqwest::Response) -> Result<Listing, Reason> {
    let mut answer = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(problem)? {
        if answer.len() + piece.len() > MOST_BYTES {
            return Err(Reason::Hub { problem: format!("its list of files is larger than {MOST_BYTES} bytes") });
        }
        answer.extend_from_slice(&piece);
    }
    Listing::parse(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chosen_by_patterns_that_stay_inside_the_repository() {
        let names =
            ["config.json", "1_Pooling/config.json", "1_x/../../config.json", "../config.json", "a/config.json"];
        let files: Vec<_> = names.iter().map(|name| serde_json::json!({ "rfilename": name, "size": 2 })).collect();
        let answer = serde_json::json!({ "sha": "a".repeat(40), "siblings": files, "other": 1 }).to_string();
        let listing = Listing::parse(answer.as_bytes()).unwrap();
        let chosen = listing.matching(&["config.json".to_owned(), "[0-9]_*/*.{json,txt}".to_owned()]).unwrap();
        assert_eq!(chosen.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), names[..2]);
        assert_eq!(chosen[0].size, 2);
    }

    #[test]
    fn a_digest_is_the_sha256_of_a_large_file_and_else_that_of_git() {
        let (git, large) = ("a1".repeat(20), "b2".repeat(32));
        for (file, expected) in [
            (serde_json::json!({ "blobId": git }), Some(&git)),
            (serde_json::json!({ "blobId": git, "lfs": { "sha256": large } }), Some(&large)),
            (serde_json::json!({ "blobId": git, "lfs": {} }), None),
            (serde_json::json!({ "blobId": "../../../../../../../../etc/passwords/12" }), None),
            (serde_json::json!({}), None),
        ] {
            let mut named = file.clone();
            named["rfilename"] = "f".into();
            let read: File = serde_json::from_value(named).unwrap();
            assert_eq!(read.digest(), expected.map(String::as_str), "{file}");
        }
    }

    #[test]
    fn an_answer_that_is_no_list_or_names_no_commit_is_refused() {
        for answer in ["<html>", "{}", r#"{"sha": "../../up"}"#] {
            let error = Listing::parse(answer.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("is not understood") || error.contains("hexadecimal"), "{error}");
        }
    }
}

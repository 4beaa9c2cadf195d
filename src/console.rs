//! The console: a page for people, at `/` of the same port.
//!
//! It is plain HTML, CSS and ES modules in `console/page`, which the binary contains: there is no build step, and it
//! works without internet. It calls the server as every client does, by JSON, so it can do nothing that its user's key
//! may not. Invariant: the page runs no code but its own, and is not shown inside another page ([`POLICY`]).

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub content: &'static [u8],
}

/// The Content-Security-Policy of all files.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of `console/page` with its path.
macro_rules! asset {
    ($path:literal, $content_type:expr, $name:literal) => {
        ($path, Asset { content_type: $content_type, content: include_bytes!(concat!("console/page/", $name)) })
    };
}

/// All files. A test compares them with the folder.
pub const ASSETS: [(&str, Asset); 12] = [
    asset!("/", HTML, "index.html"),
    asset!("/console/style.css", CSS, "style.css"),
    asset!("/console/api.js", JAVASCRIPT, "api.js"),
    asset!("/console/classify.js", JAVASCRIPT, "classify.js"),
    asset!("/console/collections.js", JAVASCRIPT, "collections.js"),
    asset!("/console/dom.js", JAVASCRIPT, "dom.js"),
    asset!("/console/live.js", JAVASCRIPT, "live.js"),
    asset!("/console/main.js", JAVASCRIPT, "main.js"),
    asset!("/console/map.js", JAVASCRIPT, "map.js"),
    asset!("/console/pca.js", JAVASCRIPT, "pca.js"),
    asset!("/console/search.js", JAVASCRIPT, "search.js"),
    asset!("/console/similarity.js", JAVASCRIPT, "similarity.js"),
];

/// Returns the file at a path.
pub fn asset(path: &str) -> Option<Asset> {
    ASSETS.iter().find(|(at, _)| *at == path).map(|(_, asset)| *asset)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_binary_contains_every_file_of_the_page_and_the_page_is_small() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/page");
        let names: BTreeSet<String> =
            folder.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let known = ASSETS.iter().map(|(path, _)| match *path {
            "/" => "index.html".to_owned(),
            path => path.trim_start_matches("/console/").to_owned(),
        });
        assert_eq!(known.collect::<BTreeSet<_>>(), names);
        let lines: usize =
            ASSETS.iter().map(|(_, asset)| asset.content.iter().filter(|byte| **byte == b'\n').count()).sum();
        assert!(lines <= 1_500, "{lines} lines");
    }

    #[test]
    fn the_page_asks_for_no_file_of_another_server() {
        for (path, asset) in ASSETS {
            let text = std::str::from_utf8(asset.content).unwrap();
            let addresses = text.matches("http://").count() + text.matches("https://").count();
            // The namespace of SVG is a name, not an address.
            assert_eq!(addresses, text.matches("http://www.w3.org/2000/svg").count(), "{path}");
        }
    }
}

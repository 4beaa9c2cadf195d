//! Reads the variables that describe the hub, with the meaning that they have for Python's `huggingface_hub`
//! (its documentation, "Environment variables").

use std::path::{Path, PathBuf};

/// The address, the cache and the token of the hub.
pub(super) struct Environment {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or in `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or the file in `HF_TOKEN_PATH`, or the file `token` in `HF_HOME`. None at all where
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
    pub token: Option<String>,
}

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

impl Environment {
    /// Reads the environment of this process.
    pub(super) fn read() -> Self {
        Self::of(&|name| std::env::var(name).ok(), dirs::home_dir().unwrap_or_else(std::env::temp_dir))
    }

    /// An empty variable counts as one that is not set.
    fn of(variable: &dyn Fn(&str) -> Option<String>, user: PathBuf) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let home = set("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let caches = set("XDG_CACHE_HOME").map_or_else(|| user.join(".cache"), PathBuf::from);
            caches.join("huggingface")
        });
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE"));
        let token = || {
            let file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
            set("HF_TOKEN").or_else(|| line_of(&file))
        };
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: if set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() { None } else { token() },
            cache: cache.map_or_else(|| home.join("hub"), PathBuf::from),
        }
    }
}

fn line_of(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], user: &Path) -> Environment {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        Environment::of(&variable, user.to_owned())
    }

    #[test]
    fn without_variables_the_public_hub_is_asked_and_the_users_cache_is_used() {
        let user = tempfile::tempdir().unwrap();
        let Environment { endpoint, cache, token } = read(&[("HF_ENDPOINT", ""), ("HF_TOKEN", " ")], user.path());
        assert_eq!((endpoint.as_str(), token), (DEFAULT_ENDPOINT, None));
        assert_eq!(cache, user.path().join(".cache/huggingface/hub"));
    }

    #[test]
    fn the_more_precise_variable_decides_where_the_cache_is() {
        let user = Path::new("/user");
        let all =
            [("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "/c")];
        let caches: Vec<_> = (0..=4).map(|n| read(&all[..n], user).cache).collect();
        assert_eq!(
            caches,
            ["/user/.cache/huggingface/hub", "/x/huggingface/hub", "/h/hub", "/o", "/c"].map(PathBuf::from)
        );
        assert_eq!(read(&[("HF_ENDPOINT", "http://mirror/hub/")], user).endpoint, "http://mirror/hub");
    }

    #[test]
    fn a_token_comes_from_its_variable_or_a_file_unless_it_is_not_wanted() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "of the home\n").unwrap();
        std::fs::write(home.path().join("other"), "of a file").unwrap();
        let (place, file) = (home.path().to_str().unwrap(), home.path().join("other"));
        let all = [("HF_HOME", place), ("HF_TOKEN_PATH", file.to_str().unwrap()), ("HF_TOKEN", "of the variable")];
        let tokens: Vec<_> = (1..=3).map(|n| read(&all[..n], Path::new("/user")).token.unwrap()).collect();
        assert_eq!(tokens, ["of the home", "of a file", "of the variable"]);
        let unwanted = [&all[..], &[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]].concat();
        assert_eq!(read(&unwanted, Path::new("/user")).token, None);
    }
}

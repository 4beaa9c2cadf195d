//! `cognate keys`: makes, lists and revokes the keys of a server, in the file that `serve --keys` reads.
//!
//! Invariant: a key is printed once, when it is made, alone on standard output. The file never has it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use super::new_file::NewFile;
use super::stderr::say;
use super::table::{self, Align, Table};
use crate::compute::{Limit, Limits};
use crate::config;
use crate::identity::{self, KeyEntry, KeyFile, KeyId, Moment, NewKey, Patterns, Principal, Role};
use crate::machine::files;

/// Time to wait for another command that changes the file, and the interval of attempts.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);

/// Makes, lists and revokes the keys by which callers identify themselves to a server with --keys
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

/// The file of the keys.
#[derive(Debug, clap::Args)]
struct File {
    /// File of the keys, as the server gets it
    #[arg(long = "keys", env = "COGNATE_KEYS", value_name = "FILE")]
    path: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and print it, once; a second key of the same name takes the place of the first without a gap
    Create(Create),
    /// List keys and certificates, without secrets
    List {
        #[command(flatten)]
        file: File,
        /// Print one JSON object per line, for other programs
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key by its id, or all keys of a name; a running server refuses it within a second
    Revoke {
        #[command(flatten)]
        file: File,
        /// Id of a key, or name
        #[arg(value_name = "ID|NAME")]
        key: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    #[command(flatten)]
    file: File,
    /// Name of the caller; keys of one name are one caller, with the same rights and limits
    #[arg(long)]
    name: String,
    /// The rights of the caller: read, write (and read), or admin (and both); default: the role of the name's other
    /// keys
    #[arg(long)]
    role: Option<Role>,
    /// Collections that it may use: a name, a beginning with * (team-a-*), or * for all; several may be given;
    /// default: those of the name's other keys, or all
    #[arg(long = "collections", value_name = "PATTERN")]
    collections: Vec<String>,
    /// Date from which the key is refused (2027-01-31, in UTC), or the number of days until then
    #[arg(long, value_name = "DATE|DAYS", value_parser = expiry)]
    expires: Option<Moment>,
    /// Calls that the caller may have in progress; default of this and the next four: that of the name's other keys, or
    /// the limits of the server alone
    #[arg(long, value_name = "N")]
    max_calls: Option<NonZeroU32>,
    /// Tokens that may wait for the models or be computed for the caller at a time
    #[arg(long, value_name = "N")]
    max_queue_tokens: Option<NonZeroU32>,
    /// Tokens that the models compute for the caller each second
    #[arg(long, value_name = "N")]
    max_tokens_per_second: Option<NonZeroU32>,
    /// Documents in all collections that the caller creates
    #[arg(long, value_name = "N")]
    max_documents: Option<NonZeroU64>,
    /// Memory of all collections that the caller creates, as max_stored_bytes counts it: 4096, 64MiB or 4GiB
    #[arg(long, value_name = "SIZE", value_parser = stored_bytes)]
    max_stored_bytes: Option<NonZeroU64>,
}

/// Runs the command. Blocks.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Create(create) => self::create(create)?,
        Action::List { file, json } => list(&identity::read(&file.path)?, json)?,
        Action::Revoke { file, key } => revoke(&file.path, &key)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create(create: Create) -> anyhow::Result<()> {
    let Create { file: File { path }, name, role, collections, expires, .. } = create;
    let limits = Limits {
        calls: create.max_calls,
        queue_tokens: create.max_queue_tokens,
        tokens_per_second: create.max_tokens_per_second,
        documents: create.max_documents,
        stored_bytes: create.max_stored_bytes,
    };
    let _lock = lock(&path)?;
    let text = if path.exists() { identity::read_text(&path)? } else { String::new() };
    let file = if text.is_empty() { KeyFile::default() } else { identity::read(&path)? };
    let known = file.principal(&name);
    let role = role.or(known.map(Principal::role));
    let role =
        role.with_context(|| format!("{name} has no key yet: give its role, read, write or admin, by --role"))?;
    let patterns = match (known, collections.is_empty()) {
        (Some(known), true) => known.collections().clone(),
        (None, true) => Patterns::all(),
        (_, false) => Patterns::parse(collections.iter().map(String::as_str)).map_err(anyhow::Error::msg)?,
    };
    let known_limits = known.map(Principal::limits).unwrap_or_default();
    let limits = if limits == Limits::default() { known_limits } else { limits };
    let principal = Principal::new(name, role, patterns).with_limits(limits);
    let key = NewKey::generate().context("the system gives no random bits")?;
    let times = (Moment::now(), expires);
    let edited = identity::add(&text, &principal, (key.id, key.digest), times)
        .with_context(|| format!("no key was made, and {} was not changed", path.display()))?;
    replace(&path, &edited.text)?;
    let until = expires.map(|moment| format!(" until {moment}")).unwrap_or_default();
    say(&format!(
        "{} may {} in {}{until}; the id of the key is {}. Keep the key: it is shown this once.",
        principal.name().unwrap_or_default(),
        principal.role(),
        principal.collections(),
        key.id,
    ));
    Ok(writeln!(io::stdout(), "{}", key.into_text())?)
}

fn revoke(path: &Path, wanted: &str) -> anyhow::Result<()> {
    let _lock = lock(path)?;
    let (text, file) = (identity::read_text(path)?, identity::read(path)?);
    let by_id = KeyId::parse(wanted).filter(|id| file.keys.iter().any(|key| key.id == *id));
    let is_wanted = |key: &KeyEntry| match by_id {
        Some(id) => key.id == id,
        None => key.principal.name() == Some(wanted),
    };
    let shown = path.display();
    let found: Vec<&KeyEntry> = file.keys.iter().filter(|key| is_wanted(key)).collect();
    // Not quoted: a key may have been given in place of its id.
    ensure!(!found.is_empty(), "{shown} has no key of this id or name: `cognate keys list` shows them");
    let ids: Vec<KeyId> = found.iter().filter(|key| key.revoked.is_none()).map(|key| key.id).collect();
    ensure!(!ids.is_empty(), "every key of this id or name in {shown} is revoked already");
    let edited = identity::revoke(&text, &ids, Moment::now()).with_context(|| format!("{shown} was not changed"))?;
    replace(path, &edited.text)?;
    for key in found.iter().filter(|key| ids.contains(&key.id)) {
        say(&format!("revoked {} of {}", key.id, key.principal.name().unwrap_or_default()));
    }
    Ok(())
}

/// Waits until no other command changes the file. The lock ends with the process.
fn lock(path: &Path) -> anyhow::Result<std::fs::File> {
    let name = path.with_added_extension("lock");
    let failed = || format!("cannot lock {} (a file beside the keys, for commands that change them)", name.display());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = files::open(&name, &options).with_context(failed)?;
    let begun = Instant::now();
    while let Err(error) = file.try_lock() {
        match error {
            std::fs::TryLockError::Error(error) => return Err(error).with_context(failed),
            std::fs::TryLockError::WouldBlock if begun.elapsed() < PATIENCE => std::thread::sleep(RETRY),
            std::fs::TryLockError::WouldBlock => bail!("another command is changing {}: try again", path.display()),
        }
    }
    Ok(file)
}

/// Replaces the file as a whole. A new one is for its user alone; another keeps its mode and its owner.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = NewFile::create_private(path)?;
    ensure!(!file.is_stream(), "{} is no regular file: keys are kept in a file", path.display());
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    file.finish()
}

fn list(file: &KeyFile, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let shown = |moment: Option<Moment>| moment.map(|moment| moment.to_string());
    if as_json {
        for key in &file.keys {
            let line = json!({
                "name": key.principal.name(), "id": key.id.to_string(), "role": key.principal.role().name(),
                "collections": key.principal.collections().texts().collect::<Vec<_>>(),
                "limits": limits(&key.principal),
                "created": shown(key.created), "expires": shown(key.expires), "revoked": shown(key.revoked),
                "valid": key.is_valid(),
            });
            writeln!(out, "{line}")?;
        }
        for entry in &file.certificates {
            let line = json!({
                "name": entry.principal.name(), "certificate": entry.certificate(),
                "role": entry.principal.role().name(), "limits": limits(&entry.principal),
                "collections": entry.principal.collections().texts().collect::<Vec<_>>(),
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    if file.keys.is_empty() && file.certificates.is_empty() {
        return Ok(writeln!(out, "no keys")?);
    }
    let columns = ["name", "id", "role", "created", "expires", "state", "collections"];
    let mut table = Table::new(columns.map(|name| (name, Align::Left)));
    let date = |moment: Option<Moment>| shown(moment).map_or("-".to_owned(), |text| text.chars().take(10).collect());
    for key in &file.keys {
        let state = match key {
            KeyEntry { revoked: Some(_), .. } => "revoked",
            key if key.is_expired() => "expired",
            _ => "valid",
        };
        table.row([
            key.principal.name().unwrap_or_default().to_owned(),
            key.id.to_string(),
            key.principal.role().to_string(),
            date(key.created),
            date(key.expires),
            state.to_owned(),
            key.principal.collections().to_string(),
        ]);
    }
    for entry in &file.certificates {
        let principal = &entry.principal;
        let none = || "-".to_owned();
        table.row([
            principal.name().unwrap_or_default().to_owned(),
            table::clean(&entry.certificate()),
            principal.role().to_string(),
            none(),
            none(),
            "certificate".to_owned(),
            principal.collections().to_string(),
        ]);
    }
    Ok(table.write(&mut out, table::stdout_width())?)
}

/// The limits of a principal by name.
fn limits(principal: &Principal) -> serde_json::Value {
    let some = Limit::ALL.into_iter().filter_map(|limit| Some((limit.name(), principal.limits().get(limit)?)));
    some.collect()
}

/// Parses a number of bytes.
fn stored_bytes(text: &str) -> Result<NonZeroU64, String> {
    let bytes = config::size(text)?;
    NonZeroU64::new(bytes as u64).ok_or_else(|| "expected one byte or more".to_owned())
}

/// Parses a date, or the number of days from now.
fn expiry(text: &str) -> Result<Moment, String> {
    let now = Moment::now();
    let moment = match text.parse::<u32>() {
        Ok(days) => now.after_days(days).ok_or("expected fewer days")?,
        Err(_) => Moment::parse(text).map_err(|reason| format!("{reason}, or a number of days"))?,
    };
    if moment > now { Ok(moment) } else { Err("expected a date after today, or one day or more".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_date_or_days_in_the_future() {
        assert!(expiry("90").unwrap() > Moment::now().after_days(89).unwrap());
        assert_eq!(expiry("2999-01-31").unwrap().to_string(), "2999-01-31T00:00:00Z");
        for wrong in ["0", "2001-01-01", "soon", "-1", "99999999999"] {
            assert!(expiry(wrong).is_err(), "{wrong}");
        }
    }
}

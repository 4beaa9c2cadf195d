//! Parsers of the values of settings. Each error says which value was expected.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use crate::machine::cpu::Level;
use crate::server::Address;

pub(super) fn auto<T>(s: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if s == "auto" { Ok(None) } else { parse(s).map(Some).map_err(|reason| format!("{reason}, or auto")) }
}

/// A limit; `none` is the largest number.
pub(super) fn bound(s: &str, parse: impl Fn(&str) -> Result<usize, String>) -> Result<usize, String> {
    if s == "none" { Ok(usize::MAX) } else { parse(s).map_err(|reason| format!("{reason}, or none")) }
}

pub(super) fn whole(s: &str, min: usize, max: usize) -> Result<usize, String> {
    let n = s.parse().ok().filter(|n| (min..=max).contains(n));
    n.ok_or_else(|| format!("expected a whole number from {min} to {max}"))
}

pub(super) fn truth(s: &str) -> Result<bool, String> {
    match s.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

pub(super) fn one_of(s: &str, values: &[&str]) -> Result<String, String> {
    if values.contains(&s) { Ok(s.to_owned()) } else { Err(format!("expected {}", values.join(" or "))) }
}

pub(super) fn address(s: &str) -> Result<SocketAddr, String> {
    let mut found = s.to_socket_addrs().map_err(|_| "expected HOST:PORT".to_owned())?;
    found.next().ok_or_else(|| "the host has no address: expected one that resolves".to_owned())
}

/// A TCP address, `unix:` and the path of a socket, or `systemd`.
pub(super) fn listener(s: &str) -> Result<Address, String> {
    if s == "systemd" {
        return Ok(Address::Activated);
    }
    match s.strip_prefix("unix:") {
        Some("") => Err("expected the path of a socket behind unix:".to_owned()),
        Some(path) => Ok(Address::Unix(path.strip_prefix("//").unwrap_or(path).into())),
        None => address(s).map(Address::Tcp).map_err(|reason| format!("{reason}, unix:PATH or systemd")),
    }
}

/// Reads a path; an empty value means no path.
pub(super) fn path(s: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(PathBuf::from(s)).filter(|path| !path.as_os_str().is_empty()))
}

/// A value, or `none`.
pub(super) fn or_none<T>(s: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if s == "none" { Ok(None) } else { parse(s).map(Some).map_err(|reason| format!("{reason}, or none")) }
}

/// A level of CPU instructions, by its name. The machine is not asked here, because `model fetch` may prepare another
/// one.
pub(super) fn instructions(s: &str) -> Result<Level, String> {
    Level::from_name(s).ok_or_else(|| format!("expected {}", Level::ALL.map(Level::name).join(", ")))
}

/// A number of bytes: `4096`, `64KiB`, `16MiB` or `4GiB`.
pub fn size(s: &str) -> Result<usize, String> {
    let at = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let unit = match &s[at..] {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = unit.and_then(|unit: usize| s[..at].parse::<usize>().ok()?.checked_mul(unit)).filter(|&n| n > 0);
    bytes.ok_or_else(|| "expected a size like 4096, 64KiB, 16MiB or 4GiB".to_owned())
}

/// A size, or 0 for nothing.
pub(super) fn size_or_none(s: &str) -> Result<usize, String> {
    if s == "0" { Ok(0) } else { size(s).map_err(|reason| format!("{reason}, or 0")) }
}

/// A duration: `500ms`, `30s` or `2m`.
pub(super) fn duration(s: &str) -> Result<Duration, String> {
    let at = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let number = s[..at].parse::<u32>().ok();
    let duration = match (&s[at..], number) {
        ("ms", Some(n)) => Some(Duration::from_millis(n.into())),
        ("s", Some(n)) => Some(Duration::from_secs(n.into())),
        ("m", Some(n)) => Some(Duration::from_secs(60 * u64::from(n))),
        _ => None,
    };
    duration.ok_or_else(|| "expected a duration like 500ms, 30s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("5"), Ok(5));
        assert_eq!((size_or_none("0"), size_or_none("5KiB")), (Ok(0), Ok(5 << 10)));
        assert!(size_or_none("none").unwrap_err().ends_with("or 0"));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "MiB", "0", "1MB", "99999999999GiB", "-1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "s", "1", "1h", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}

//! Parses the address of a server.

use super::Error;

/// The place of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    pub url: String,
    /// The connection has TLS.
    pub tls: bool,
    /// The connection does not leave this machine.
    pub local: bool,
}

/// Parses `host:port`, `http://host:port`, `https://host[:port]` or `unix:path`. The address that a server listens on
/// works too: `0.0.0.0` and `[::]` mean any address of this machine, so the loopback address is called. An address
/// without scheme has TLS if `with_tls`.
pub(super) fn parse(address: &str, with_tls: bool) -> Result<Target, Error> {
    let refuse = |reason: &str| Err(Error::Address { address: address.into(), reason: reason.into() });
    if let Some(path) = address.strip_prefix("unix:") {
        if with_tls {
            return refuse("a Unix socket has no TLS: leave out the options of TLS");
        }
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Target { url: format!("unix:{path}"), tls: false, local: true });
    }
    let (tls, rest) = match address.split_once("://") {
        None => (with_tls, address),
        Some(("https", rest)) => (true, rest),
        Some(("http", _)) if with_tls => return refuse("options of TLS are given: expected https://"),
        Some(("http", rest)) => (false, rest),
        Some(_) => return refuse("expected https://, http://, unix: or no scheme"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let is_https = address.starts_with("https://");
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ if is_https => (rest, "443"),
        _ => return refuse("expected host:port, for example 127.0.0.1:50051"),
    };
    if port.parse::<u16>().is_err() {
        return refuse("the port is not a number: expected 0 to 65535");
    }
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    let scheme = if tls { "https" } else { "http" };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let local = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    Ok(Target { url: format!("{scheme}://{host}:{port}"), tls, local })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_scheme_and_may_be_the_listening_address() {
        for (address, url, local) in [
            ("127.0.0.1:50051", "http://127.0.0.1:50051", true),
            ("http://search.internal:80", "http://search.internal:80", false),
            ("http://localhost:50051/", "http://localhost:50051", true),
            ("0.0.0.0:50051", "http://127.0.0.1:50051", true),
            ("[::]:50051", "http://[::1]:50051", true),
            ("10.1.2.3:50051", "http://10.1.2.3:50051", false),
            (":50051", "http://127.0.0.1:50051", true),
            ("unix:/run/cognate.sock", "unix:/run/cognate.sock", true),
            ("unix:///run/cognate.sock", "unix:/run/cognate.sock", true),
        ] {
            let expected = Target { url: url.to_owned(), tls: false, local };
            assert_eq!(parse(address, false).expect(address), expected);
        }
    }

    #[test]
    fn tls_follows_from_the_scheme_or_from_its_options() {
        for (address, with_tls, url) in [
            ("https://search.example.com", false, "https://search.example.com:443"),
            ("https://[2001:db8::1]", false, "https://[2001:db8::1]:443"),
            ("https://search.example.com:50051/", false, "https://search.example.com:50051"),
            ("0.0.0.0:50051", true, "https://127.0.0.1:50051"),
        ] {
            let target = parse(address, with_tls).expect(address);
            assert_eq!((target.url.as_str(), target.tls), (url, true));
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_the_reason() {
        for (address, with_tls, reason) in [
            ("localhost", false, "expected host:port"),
            ("localhost:http", false, "the port is not a number"),
            ("localhost:99999", false, "the port is not a number"),
            ("http://localhost:1", true, "expected https://"),
            ("unix:/tmp/s", true, "a Unix socket has no TLS"),
            ("ftp://localhost:1", false, "expected https://, http://"),
        ] {
            let message = parse(address, with_tls).expect_err(address).to_string();
            assert!(message.contains(reason) && message.contains(address), "{message}");
        }
    }
}

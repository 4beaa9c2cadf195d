//! Parses the address of a server.

use super::Error;

/// Returns the URL for `host:port` or `http://host:port`. The address that a server listens on works too: `0.0.0.0` and
/// `[::]` mean any address of this machine, so the loopback address is called.
pub(super) fn parse(address: &str) -> Result<String, Error> {
    let refuse = |reason: &str| Err(Error::Address { address: address.into(), reason: reason.into() });
    let rest = match address.split_once("://") {
        None => address,
        Some(("http", rest)) => rest,
        Some(("https", _)) => {
            return refuse("TLS is not supported: use http://, or put a proxy in front of the server");
        }
        Some(_) => return refuse("expected http:// or no scheme"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let Some((host, port)) = rest.rsplit_once(':') else {
        return refuse("expected host:port, for example 127.0.0.1:50051");
    };
    if port.parse::<u16>().is_err() {
        return refuse("the port is not a number: expected 0 to 65535");
    }
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    Ok(format!("http://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_scheme_and_may_be_the_listening_address() {
        for (address, url) in [
            ("127.0.0.1:50051", "http://127.0.0.1:50051"),
            ("http://search.internal:80", "http://search.internal:80"),
            ("http://localhost:50051/", "http://localhost:50051"),
            ("0.0.0.0:50051", "http://127.0.0.1:50051"),
            ("[::]:50051", "http://[::1]:50051"),
            (":50051", "http://127.0.0.1:50051"),
        ] {
            assert_eq!(parse(address).expect(address), url);
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_the_reason() {
        for (address, reason) in [
            ("localhost", "expected host:port"),
            ("localhost:http", "the port is not a number"),
            ("localhost:99999", "the port is not a number"),
            ("https://localhost:1", "TLS is not supported"),
            ("unix:///tmp/s:1", "expected http://"),
        ] {
            let message = parse(address).expect_err(address).to_string();
            assert!(message.contains(reason) && message.contains(address), "{message}");
        }
    }
}

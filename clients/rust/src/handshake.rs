//! Explains why a connection failed in its handshake, in words that say what to do.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError;

/// The error and its causes.
pub(super) fn chain<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Explains a failed or lost connection, if TLS is the reason. `tls`: the client used TLS.
pub(super) fn explain(cause: &(dyn StdError + 'static), tls: bool) -> Option<&'static str> {
    if let Some(error) = chain(cause).find_map(rustls_error) {
        return Some(match error {
            rustls::Error::InvalidCertificate(fault) => of_certificate(fault),
            rustls::Error::InvalidMessage(_) => {
                "the server has no TLS: call it by http://, or start it with --tls-cert"
            }
            rustls::Error::AlertReceived(_) => return of_alert(&error.to_string()),
            _ => return None,
        });
    }
    // HTTP/2 keeps only the text of an error below it.
    let text = chain(cause).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    if !tls && ["frame with invalid size", "minimum security requirements"].iter().any(|fault| text.contains(fault)) {
        // A server's TLS alert, read as a frame; or the reason that Cognate gives.
        return Some(
            "the server has TLS: call it by https://, and name its authority (--tls-ca, `Tls::ca`) if it is your own",
        );
    }
    of_alert(&text)
}

fn of_certificate(fault: &CertificateError) -> &'static str {
    use CertificateError as Fault;

    match fault {
        // Another key of an authority with the same name.
        Fault::UnknownIssuer | Fault::BadSignature => {
            "the authority of the server's certificate is not trusted here: give the authority's certificate \
             (--tls-ca, `Tls::ca`)"
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            "the server's certificate has other names: call the server by one of them, or give it (--tls-name, \
             `Tls::server_name`)"
        }
        Fault::Expired | Fault::ExpiredContext { .. } => "the server's certificate has expired: it needs a new one",
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: compare the clocks of both machines"
        }
        _ => "the server's certificate is not accepted: look at it with `openssl s_client -connect HOST:PORT`",
    }
}

/// Explains an alert of the server, by its name.
fn of_alert(text: &str) -> Option<&'static str> {
    let (_, alert) = text.split_once("received fatal alert: ")?;
    let name = alert.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    Some(match name {
        "CertificateRequired" | "HandshakeFailure" | "NoCertificate" => {
            "the server asks for a client certificate: give one (--tls-cert and --tls-key, `Tls::identity`)"
        }
        "UnknownCA" | "BadCertificate" | "CertificateUnknown" | "DecryptError" | "UnsupportedCertificate" => {
            "the server does not accept the client certificate: give one that an authority of its --tls-client-ca \
             signed"
        }
        "CertificateExpired" => {
            "the client certificate has expired: give a new one (--tls-cert and --tls-key, `Tls::identity`)"
        }
        "NoApplicationProtocol" => "the server at this address speaks TLS, and not gRPC: give the address of Cognate",
        _ => return None,
    })
}

fn rustls_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let inside = || error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref();
    error.downcast_ref().or_else(inside)
}

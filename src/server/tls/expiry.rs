//! The validity of the server's certificate: its end, and the warning before it.
//!
//! An expired certificate cuts off all clients at once, on a day when nobody changed anything. So the log warns two
//! weeks before, and metrics have the end for alerts.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Days before the end from which the log warns. Renewals by ACME come 30 days before it, so two weeks of them failed.
const WARNING_DAYS: i64 = 14;

/// The end of a certificate's validity.
#[derive(Debug, Clone, Copy)]
pub struct Expiry(ASN1Time);

impl Expiry {
    /// Reads the end of a certificate that is valid now. An error has the reason.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| format!("the first certificate cannot be parsed: {error}"))?;
        let validity = parsed.validity();
        if !validity.is_valid() {
            let (from, until) = (&validity.not_before, &validity.not_after);
            return Err(format!("the certificate is valid from {from} until {until}, not now: give a current one"));
        }
        Ok(Self(validity.not_after))
    }

    /// Seconds from 1970 to the end.
    pub fn seconds(self) -> u64 {
        self.0.timestamp().try_into().unwrap_or_default()
    }

    /// A warning for the log, if the certificate has expired or expires soon.
    pub fn warning(self) -> Option<String> {
        self.warning_at(ASN1Time::now().timestamp())
    }

    fn warning_at(self, now: i64) -> Option<String> {
        let left = self.0.timestamp() - now;
        let state = match left {
            ..=0 => format!("expired at {self}, and clients refuse it"),
            _ if left < WARNING_DAYS * DAY => format!("expires at {self}, in {} days", left / DAY),
            _ => return None,
        };
        Some(format!("the certificate in tls_cert {state}: put a new one in its place, it is read without a restart"))
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_begins_two_weeks_before_the_end_and_stays_after_it() {
        let end = 1_800_000_000;
        let expiry = Expiry(ASN1Time::from_timestamp(end).unwrap());
        assert_eq!(expiry.seconds(), 1_800_000_000);
        assert_eq!(expiry.warning_at(end - WARNING_DAYS * DAY), None);
        let soon = expiry.warning_at(end - 3 * DAY - 1).unwrap();
        assert!(soon.contains("expires at Jan 15") && soon.contains("in 3 days"), "{soon}");
        for now in [end, end + DAY] {
            let past = expiry.warning_at(now).unwrap();
            assert!(past.contains("expired at Jan 15"), "{past}");
        }
    }
}

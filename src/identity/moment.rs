//! Moments in the keys file: an RFC 3339 time, or a date, which means its first second in UTC.

use std::fmt;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(OffsetDateTime);

impl Moment {
    /// The present moment.
    pub fn now() -> Self {
        Self::of(SystemTime::now().into())
    }

    /// The moment `days` days after this one; `None`: it is too far away.
    pub fn after_days(self, days: u32) -> Option<Self> {
        self.0.checked_add(time::Duration::days(days.into())).map(Self::of)
    }

    /// Parses `2027-01-31` or `2027-01-31T12:00:00Z`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_date = text.len() == 10;
        let parsed = if is_date {
            OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339)
        } else {
            OffsetDateTime::parse(text, &Rfc3339)
        };
        parsed.map(Self::of).map_err(|_| "expected a date like 2027-01-31, or 2027-01-31T12:00:00Z".to_owned())
    }

    /// The time from now until then; `None`: it has passed.
    pub(super) fn left(self) -> Option<Duration> {
        SystemTime::from(self.0).duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero())
    }

    fn of(time: OffsetDateTime) -> Self {
        Self(time.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(time))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Years beyond 9999 have no such form.
        f.pad(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_its_first_second_in_utc() {
        let of = |text| Moment::parse(text).unwrap();
        assert_eq!(of("2027-01-31"), of("2027-01-31T00:00:00Z"));
        assert_eq!(of("2027-01-31T02:00:00.9+02:00").to_string(), "2027-01-31T00:00:00Z");
        assert_eq!(of("2027-01-31").after_days(1), Some(of("2027-02-01")));
        for wrong in ["", "tomorrow", "2027-13-01", "2027-1-1", "31.01.2027", "2027-01-31T12:00:00"] {
            assert!(Moment::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_has_passed_has_no_time_left() {
        assert_eq!(Moment::parse("2001-01-01").unwrap().left(), None);
        assert!(Moment::now().after_days(2).unwrap().left().is_some_and(|left| left > Duration::from_secs(86_400)));
    }
}

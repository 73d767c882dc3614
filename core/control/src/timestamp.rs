//! Points in time as the API writes them: RFC 3339, in UTC.

use std::time::SystemTime;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// Now, to the millisecond.
pub fn now() -> String {
    rfc3339(SystemTime::now())
}

/// So many milliseconds ago, to the millisecond.
pub fn ago(ms: u64) -> String {
    let then = SystemTime::now().checked_sub(std::time::Duration::from_millis(ms));
    rfc3339(then.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// A point in time, to the millisecond. One that no calendar reaches becomes the epoch.
pub fn rfc3339(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    let to_millis = TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Trunc);
    time.round(to_millis).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn writes_utc_with_milliseconds() {
        assert_eq!(
            super::rfc3339(UNIX_EPOCH + Duration::from_micros(1_700_000_000_140_900)),
            "2023-11-14T22:13:20.14Z"
        );
    }
}

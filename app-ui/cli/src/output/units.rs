//! Numbers and times in words.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
pub use mast_control::words::units::{ago, bytes, millis, percent};

/// The local time of day of an RFC 3339 time; with its date, unless that is today.
pub fn clock(time: &str) -> String {
    clock_at(time, &ZonedDateTime::now().with_time_zone(TimeZone::system()))
}

fn clock_at(time: &str, now: &ZonedDateTime) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return "--:--:--".to_owned() };
    let time = time.to_zoned_datetime(now.time_zone().clone());
    let format = if time.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now = "2026-03-01T12:30:00Z".parse::<Timestamp>().unwrap().to_zoned_datetime(TimeZone::UTC);
        assert_eq!(clock_at("2026-03-01T12:04:31.5Z", &now), "12:04:31");
        assert_eq!(clock_at("2026-02-28T23:59:59Z", &now), "2026-02-28 23:59:59");
        assert_eq!(clock_at("yesterday", &now), "--:--:--");
    }
}

//! What a Wi-Fi radio says of how well it hears its station, and how often it must repeat itself.
//!
//! It says so before anything is lost for good: a radio repeats what was not acknowledged, and goes over to slower and
//! sturdier modulations, until that is not enough.

use super::netlink::{attributes, u32_at};
pub(super) use crate::radio::{Radios, Station};

/// Attributes of `NL80211_ATTR_STA_INFO`.
const SIGNAL: u16 = 7;
const TX_PACKETS: u16 = 10;
const TX_RETRIES: u16 = 11;
const TX_FAILED: u16 = 12;
const SIGNAL_AVERAGE: u16 = 13;

impl Station {
    /// Reads the attributes within `NL80211_ATTR_STA_INFO`.
    pub(super) fn read(info: &[u8]) -> Self {
        let mut station = Self::default();
        let mut average = None;
        for (kind, value) in attributes(info) {
            let number = u32_at(value, 0);
            let dbm = value.first().map(|byte| byte.cast_signed());
            match kind {
                SIGNAL => station.signal = dbm,
                SIGNAL_AVERAGE => average = dbm,
                TX_PACKETS => station.packets = number.unwrap_or(0),
                TX_RETRIES => station.retries = number.unwrap_or(0),
                TX_FAILED => station.failed = number.unwrap_or(0),
                _ => {}
            }
        }
        // Drivers that cannot tell say 0.
        station.signal = average.or(station.signal).filter(|dbm| *dbm < 0);
        station
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a driver tells it: attributes of other kinds between, and padding.
    fn info(signal: i8, average: Option<i8>, [packets, retries, failed]: [u32; 3]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut add = |kind: u16, value: &[u8]| {
            bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        };
        add(1, &120_u32.to_ne_bytes());
        add(SIGNAL, &[signal.cast_unsigned()]);
        if let Some(average) = average {
            add(SIGNAL_AVERAGE, &[average.cast_unsigned()]);
        }
        add(8, &[0; 20]);
        add(TX_PACKETS, &packets.to_ne_bytes());
        add(TX_RETRIES, &retries.to_ne_bytes());
        add(TX_FAILED, &failed.to_ne_bytes());
        bytes
    }

    #[test]
    fn reads_what_drivers_tell() {
        let read = Station::read(&info(-61, Some(-64), [900, 40, 2]));
        assert_eq!(read, Station { signal: Some(-64), packets: 900, retries: 40, failed: 2 });
        assert_eq!(Station::read(&info(0, None, [0; 3])).signal, None);
        assert_eq!(Station::read(&[1, 2, 3]), Station::default());
    }
}

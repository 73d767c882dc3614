//! What two parts of Windows say of a network, put together.

use std::collections::BTreeMap;

use super::system::Notes;

/// Bits of what a connection costs (`NLM_CONNECTION_COST`).
const UNRESTRICTED: u32 = 1;
const FIXED: u32 = 2;
const VARIABLE: u32 = 4;
const OVER_LIMIT: u32 = 0x1_0000;
const ROAMING: u32 = 0x4_0000;
const NEAR_LIMIT: u32 = 0x8_0000;

/// A connection, as the list of networks has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// What the user calls the network: for Wi-Fi its own name at first.
    pub name: Option<String>,
    /// What it costs, in bits.
    pub cost: Option<u32>,
}

/// A Wi-Fi adapter, as far as the system says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Radio<'a> {
    /// The network's name: any bytes.
    pub name: Option<&'a [u8]>,
    /// In dBm.
    pub signal: Option<i32>,
    /// Between 0 and 100, for -100 and -50 dBm.
    pub quality: Option<u32>,
}

impl Radio<'_> {
    /// What is known by it alone.
    pub fn notes(&self) -> Notes {
        let of_quality = || Some(i32::try_from(self.quality?.min(100)).ok()? / 2 - 100);
        // Drivers that cannot tell say 0.
        let signal = self.signal.filter(|dbm| *dbm < 0).or_else(of_quality);
        let name = self.name.filter(|name| !name.is_empty());
        Notes {
            network: name.map(|name| String::from_utf8_lossy(name).into_owned()),
            metered: None,
            signal: signal.and_then(|dbm| i8::try_from(dbm.max(-128)).ok()),
        }
    }
}

/// Whether traffic costs money; none where nobody knows.
pub fn is_metered(cost: u32) -> Option<bool> {
    match cost {
        cost if cost & (FIXED | VARIABLE | OVER_LIMIT | ROAMING | NEAR_LIMIT) != 0 => Some(true),
        cost if cost & UNRESTRICTED != 0 => Some(false),
        _ => None,
    }
}

/// All that is known of adapters. A network's name is told where there is a radio; Windows numbers those of cables.
pub fn join(radios: BTreeMap<u64, Notes>, connections: BTreeMap<u64, Connection>) -> BTreeMap<u64, Notes> {
    let mut all = radios;
    for (luid, connection) in connections {
        let radio = all.contains_key(&luid);
        let notes = all.entry(luid).or_default();
        notes.metered = connection.cost.and_then(is_metered);
        if radio && notes.network.is_none() {
            notes.network = connection.name.filter(|name| !name.is_empty());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_costs() {
        for (cost, metered) in [
            (0, None),
            (UNRESTRICTED, Some(false)),
            (FIXED, Some(true)),
            (VARIABLE, Some(true)),
            (UNRESTRICTED | ROAMING, Some(true)),
            (FIXED | OVER_LIMIT, Some(true)),
            (UNRESTRICTED | 0x2_0000, Some(false)),
        ] {
            assert_eq!(is_metered(cost), metered, "{cost:x}");
        }
    }

    #[test]
    fn a_radio_says_how_well_it_hears_or_its_quality_does() {
        let signal = |signal, quality| Radio { name: None, signal, quality }.notes().signal;
        assert_eq!(signal(Some(-61), Some(10)), Some(-61));
        assert_eq!(signal(Some(0), Some(78)), Some(-61));
        assert_eq!(signal(None, Some(0)), Some(-100));
        assert_eq!(signal(None, Some(900)), Some(-50));
        assert_eq!(signal(Some(-1_000), None), Some(-128));
        assert_eq!(signal(None, None), None);
        let named = |name: &'static [u8]| Radio { name: Some(name), ..Radio::default() }.notes().network;
        assert_eq!(named(b"Caf\xc3\xa9").as_deref(), Some("Caf\u{e9}"));
        assert_eq!(named(b"\xff").as_deref(), Some("\u{fffd}"));
        assert_eq!(named(b""), None);
    }

    #[test]
    fn names_of_the_list_stand_in_for_a_radios_and_for_nothing_else() {
        let radio = |network: Option<&str>| Notes { network: network.map(str::to_owned), ..Notes::default() };
        let connection = |name: &str, cost| Connection { name: Some(name.into()), cost };
        let all = join(
            [(1, radio(Some("Home"))), (2, radio(None)), (5, radio(None))].into(),
            [
                (1, connection("Home 2", Some(FIXED))),
                (2, connection("Office", Some(0))),
                (3, connection("Network 7", Some(UNRESTRICTED))),
                (4, connection("", None)),
            ]
            .into(),
        );
        let told = |luid: u64| (all[&luid].network.as_deref(), all[&luid].metered);
        assert_eq!(told(1), (Some("Home"), Some(true)));
        assert_eq!(told(2), (Some("Office"), None));
        assert_eq!(told(3), (None, Some(false)));
        assert_eq!((told(4), told(5)), ((None, None), (None, None)));
    }
}

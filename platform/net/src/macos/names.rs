//! Names through the tunnel: words for the dynamic store, by way of `scutil`.
//!
//! A resolver for all names is added as a temporary key of a session: it goes with the session, however that ends, and no
//! setting of the user's is touched. What a program asks some server by itself is not led elsewhere.

use std::fmt::Write;
use std::net::IpAddr;

/// Whose resolver it is: that of no service of the network settings.
const KEY: &str = "State:/Network/Service/mast/DNS";
/// Whom the system asks otherwise.
const GLOBAL: &str = "State:/Network/Global/DNS";
/// Less comes first. Apple's own VPNs have the same; what is for one domain alone comes before anyway.
const ORDER: u32 = 100_000;

/// Has all names asked of these.
pub fn set(servers: &[IpAddr]) -> String {
    let mut list = String::new();
    servers.iter().for_each(|server| _ = write!(list, " {server}"));
    format!(
        "d.init\nd.add ServerAddresses *{list}\nd.add SupplementalMatchDomains * \"\"\nd.add SearchOrder # {ORDER}\n\
         remove {KEY}\nadd {KEY} temporary\n"
    )
}

/// Asks who is asked because of MAST.
pub fn ours() -> String {
    format!("show {KEY}\n")
}

/// Asks who is asked otherwise.
pub fn of_system() -> String {
    format!("show {GLOBAL}\n")
}

/// Asks what the Wi-Fi of an interface is joined to.
pub fn of_wifi(interface: &str) -> String {
    format!("show State:/Network/Interface/{interface}/AirPort\n")
}

/// The name of a network that `scutil` shows: a line such as `SSID_STR : Office`. Nothing where there is none, or where the
/// system keeps it to itself, which later ones do: it is then empty, or says so in angle brackets.
pub fn network(shown: &str) -> Option<String> {
    let name = shown.lines().find_map(|line| line.trim_start().strip_prefix("SSID_STR : "))?;
    let hidden =
        name.starts_with('<') && name.ends_with('>') && name.to_ascii_lowercase().contains("redacted");
    (!name.is_empty() && !hidden).then(|| name.to_owned())
}

/// The servers that `scutil` shows: lines such as `0 : 192.0.2.1` in `ServerAddresses : <array> {`.
pub fn servers(shown: &str) -> Vec<IpAddr> {
    let lines =
        shown.lines().map(str::trim).skip_while(|line| !line.starts_with("ServerAddresses :")).skip(1);
    let values = lines.take_while(|line| *line != "}").filter_map(|line| line.split_once(" : "));
    // A zone may follow.
    values.filter_map(|(_, value)| value.split('%').next()?.parse().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_understood() {
        let shown = "<dictionary> {\n  SearchDomains : <array> {\n    0 : example.org\n  }\n  ServerAddresses : <array> {\n    0 \
                     : 192.0.2.53\n    1 : fe80::1%en0\n    2 : nonsense\n  }\n  Other : <array> {\n    0 : 10.9.9.9\n  }\n}\n";
        let expected: [IpAddr; 2] = ["192.0.2.53".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(servers(shown), expected);
        assert_eq!(servers("  No such key\n"), Vec::<IpAddr>::new());
    }

    #[test]
    fn a_network_has_the_name_that_is_shown_unless_it_is_hidden() {
        let shown = |name: &str| {
            format!("<dictionary> {{\n  BSSID : <data> 0x02\n  SSID_STR : {name}\n  CHANNEL : 6\n}}\n")
        };
        for (name, expected) in [
            ("Office", Some("Office")),
            ("a : b ", Some("a : b ")),
            ("<3 lunch>", Some("<3 lunch>")),
            ("", None),
            ("<SSID Redacted>", None),
            ("<redacted>", None),
        ] {
            assert_eq!(network(&shown(name)).as_deref(), expected, "{name}");
        }
        assert_eq!(network("  No such key\n"), None);
        assert_eq!(of_wifi("en0"), "show State:/Network/Interface/en0/AirPort\n");
    }

    #[test]
    fn the_words_are_those_of_scutil() {
        let words = set(&["10.77.0.53".parse().unwrap(), "fd77::53".parse().unwrap()]);
        let lines: Vec<&str> = words.lines().collect();
        assert_eq!(lines[0], "d.init");
        assert_eq!(lines[1], "d.add ServerAddresses * 10.77.0.53 fd77::53");
        assert_eq!(lines[2], "d.add SupplementalMatchDomains * \"\"");
        assert_eq!(lines.last(), Some(&"add State:/Network/Service/mast/DNS temporary"));
    }
}

//! What the commands of a file are for. They are never run; but some of them say what the file wants, or forbids.

/// What a command does, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Sets this host's private key, or all of the configuration.
    PrivateKey,
    /// Sets a preshared key.
    PresharedKey,
    /// Forbids traffic beside the tunnel.
    KillSwitch,
    Other,
}

/// What a command is for. Only what begins the tunnel counts: what ends it undoes that.
pub(super) fn purpose(key: &str, command: &str) -> Purpose {
    let lower = command.to_ascii_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| c.is_whitespace() || "\"'`;&|()<>$".contains(c))
        .filter(|w| !w.is_empty())
        .collect();
    let has = |word: &str| words.contains(&word);
    let program = |name: &str| words.iter().any(|w| w.rsplit('/').next() == Some(name));
    let begins = key.starts_with("Pre") && key.ends_with("Up") || key == "PostUp";
    if begins && program("wg") {
        if has("private-key") || has("setconf") || has("addconf") || has("syncconf") {
            return Purpose::PrivateKey;
        }
        if has("preshared-key") {
            return Purpose::PresharedKey;
        }
    }
    let firewall =
        ["iptables", "ip6tables", "iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"];
    let firewall = firewall.iter().any(|p| program(p))
        || ["nft", "ufw", "pfctl", "firewall-cmd"].iter().any(|p| program(p));
    let refuses =
        ["reject", "drop", "blackhole", "prohibit", "unreachable", "deny", "block"].iter().any(|w| has(w));
    if firewall && refuses || program("ip") && (has("blackhole") || has("prohibit") || has("unreachable")) {
        return Purpose::KillSwitch;
    }
    Purpose::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood_as_far_as_they_matter() {
        for (key, command, expected) in [
            ("PostUp", "wg set %i private-key /etc/wireguard/%i.key", Purpose::PrivateKey),
            ("PreUp", "/usr/bin/wg setconf %i <(pass vpn)", Purpose::PrivateKey),
            ("PostUp", "wg set %i peer K= preshared-key <(pass vpn/%i.psk)", Purpose::PresharedKey),
            ("PostDown", "wg set %i private-key /dev/null", Purpose::Other),
            (
                "PostUp",
                "iptables -I OUTPUT ! -o %i -m mark ! --mark $(wg show %i fwmark) -j REJECT",
                Purpose::KillSwitch,
            ),
            ("PreUp", "nft add rule inet f o oifname != \"wg0\" drop", Purpose::KillSwitch),
            ("PostUp", "ip route add unreachable default metric 900", Purpose::KillSwitch),
            ("PostUp", "ufw default deny outgoing", Purpose::KillSwitch),
            ("PostUp", "iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE", Purpose::Other),
            ("PostUp", "ip rule add from 10.77.77.0/24 table 128", Purpose::Other),
            ("PostUp", "echo private-key dropped", Purpose::Other),
        ] {
            assert_eq!(purpose(key, command), expected, "{key} = {command}");
        }
    }
}

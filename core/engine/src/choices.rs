//! What the user chose for interfaces, while MAST runs: it wins over what the system says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use mast_proto::{Interface, InterfaceId, Relayed};

use crate::api::InterfaceChoice;
use crate::nat64::{self, Nat64};

/// Choices by the interface's name; an interface that is not there keeps its own for when it comes.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    by_name: BTreeMap<String, InterfaceChoice>,
    /// Every interface as the system has it.
    seen: Vec<Interface>,
    /// Uplinks that carried all that the user means to spend: an interface's name, or `network:` and that of a network.
    spent: BTreeSet<String>,
    /// How addresses are seen from outside.
    reflexive: Vec<(InterfaceId, IpAddr, SocketAddr)>,
    /// What they have at relays; a number may pass on to another interface.
    relayed: Vec<(InterfaceId, String, Relayed)>,
    /// By name, those with a NAT64 (RFC 6146).
    translated: BTreeMap<String, Nat64>,
}

impl Choices {
    pub fn new(by_name: BTreeMap<String, InterfaceChoice>) -> Self {
        Self { by_name, ..Self::default() }
    }

    /// The interfaces that may be used, as the user wants them seen, out of those that the system has.
    pub fn apply(&mut self, seen: Vec<Interface>) -> Vec<Interface> {
        self.seen = seen;
        self.usable()
    }

    /// The same for the interfaces seen last.
    pub fn usable(&self) -> Vec<Interface> {
        self.all()
            .into_iter()
            .filter(|(_, choice)| !choice.excluded)
            .map(|(interface, _)| interface)
            .collect()
    }

    /// All interfaces as the user wants them seen, each with what was chosen.
    pub fn all(&self) -> Vec<(Interface, InterfaceChoice)> {
        let seen = self.seen.iter().cloned();
        seen.map(|mut interface| {
            let choice = self.by_name.get(&interface.name).copied().unwrap_or_default();
            interface.metered = choice.metered.unwrap_or(interface.metered);
            let uplink = match &interface.network {
                Some(network) => format!("network:{network}"),
                None => interface.name.clone(),
            };
            interface.outlook.spent = self.spent.contains(&uplink);
            let of_it = self.reflexive.iter().filter(|(id, ..)| *id == interface.id);
            interface.reflexive = of_it.map(|(_, own, seen)| (*own, *seen)).collect();
            let at_it =
                self.relayed.iter().filter(|(id, name, _)| *id == interface.id && *name == interface.name);
            interface.relayed = at_it.map(|(.., relayed)| *relayed).collect();
            if self.translated.contains_key(&interface.name) && nat64::is_of_use(&interface) {
                interface.addresses.push(nat64::SELF.into());
            }
            (interface, choice)
        })
        .collect()
    }

    /// Whether there is such an interface, or was when something was chosen for it.
    pub fn knows(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.seen.iter().any(|i| i.name == name)
    }

    /// These uplinks have carried all that the user means to spend. Whether that is new.
    pub fn spend(&mut self, uplinks: BTreeSet<String>) -> bool {
        let new = self.spent != uplinks;
        self.spent = uplinks;
        new
    }

    /// So addresses are seen from outside. Whether that is new.
    pub fn see(&mut self, reflexive: Vec<(InterfaceId, IpAddr, SocketAddr)>) -> bool {
        let new = self.reflexive != reflexive;
        self.reflexive = reflexive;
        new
    }

    /// So much they have at relays. Whether that is new.
    pub fn relay(&mut self, relayed: Vec<(InterfaceId, String, Relayed)>) -> bool {
        let new = self.relayed != relayed;
        self.relayed = relayed;
        new
    }

    /// IPv4 addresses are reached over these with such a prefix. Whether that is new.
    pub fn translate(&mut self, translated: BTreeMap<String, Nat64>) -> bool {
        let new = self.translated != translated;
        self.translated = translated;
        new
    }

    /// What is chosen for an interface.
    pub fn of(&self, name: &str) -> InterfaceChoice {
        self.by_name.get(name).copied().unwrap_or_default()
    }

    /// Changes what is chosen for an interface; all choices, to be kept.
    pub fn set(&mut self, name: &str, choice: InterfaceChoice) -> BTreeMap<String, InterfaceChoice> {
        if choice == InterfaceChoice::default() {
            self.by_name.remove(name);
        } else {
            self.by_name.insert(name.to_owned(), choice);
        }
        self.by_name.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mast_proto::InterfaceKind;

    use super::*;

    pub(crate) fn interface(id: u32, name: &str) -> Interface {
        Interface {
            id: InterfaceId(id),
            name: name.into(),
            kind: InterfaceKind::Other,
            network: None,
            metered: false,
            addresses: vec![],
            link_local: None,
            usable: true,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        }
    }

    #[test]
    fn what_is_spent_is_of_the_network_where_there_is_one() {
        let mut choices = Choices::default();
        let train = Interface { network: Some("Train".into()), ..interface(1, "wifi") };
        choices.apply(vec![train, interface(2, "cell")]);
        let spent = |choices: &Choices| choices.usable().iter().map(|i| i.outlook.spent).collect::<Vec<_>>();
        assert!(choices.spend(["network:Train".to_owned()].into()));
        assert_eq!(spent(&choices), [true, false]);
        assert!(!choices.spend(["network:Train".to_owned()].into()), "nothing new");
        assert!(choices.spend(["cell".to_owned(), "wifi".to_owned()].into()));
        assert_eq!(spent(&choices), [false, true]);
    }

    #[test]
    fn an_interface_with_a_nat64_has_ipv4_unless_it_has_its_own() {
        let mut choices = Choices::default();
        let prefix = Nat64::new("64:ff9b::".parse().unwrap(), 96).unwrap();
        let with = |id, name: &str, addresses: &[&str]| Interface {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ..interface(id, name)
        };
        choices.apply(vec![
            with(1, "six", &["2001:db8::2"]),
            with(2, "both", &["2001:db8::3", "192.0.2.3"]),
            with(3, "none", &[]),
            with(4, "other", &["2001:db8::4"]),
        ]);
        let prefixes: BTreeMap<_, _> = ["six", "both", "none"].map(|name| (name.to_owned(), prefix)).into();
        assert!(choices.translate(prefixes.clone()) && !choices.translate(prefixes));
        let v4 = |i: &Interface| i.addresses.iter().copied().filter(IpAddr::is_ipv4).collect::<Vec<_>>();
        let found: Vec<_> = choices.usable().iter().map(v4).collect();
        let own: IpAddr = "192.0.2.3".parse().unwrap();
        assert_eq!(found, [vec![nat64::SELF.into()], vec![own], vec![], vec![]]);
        assert!(choices.translate(BTreeMap::new()));
        assert_eq!(choices.usable()[0].addresses.len(), 1);
    }

    #[test]
    fn the_users_word_counts_and_outlives_the_interface() {
        let mut choices = Choices::default();
        assert_eq!(choices.apply(vec![interface(1, "wifi"), interface(2, "cell")]).len(), 2);
        choices.set("cell", InterfaceChoice { excluded: true, metered: None });
        let kept = choices.set("wifi", InterfaceChoice { excluded: false, metered: Some(true) });
        assert_eq!(kept.len(), 2);
        let usable = choices.usable();
        assert_eq!(usable.iter().map(|i| (&*i.name, i.metered)).collect::<Vec<_>>(), [("wifi", true)]);
        assert_eq!(choices.all().len(), 2);
        assert!(choices.apply(vec![]).is_empty() && choices.knows("cell") && !choices.knows("eth"));
        assert_eq!(choices.apply(vec![interface(7, "cell")]), []);
        assert_eq!(choices.set("cell", InterfaceChoice::default()).len(), 1);
        assert_eq!(choices.usable(), [interface(7, "cell")]);
    }
}

//! Finds a peer by its key or its name.

use std::collections::HashMap;

use crate::api::{PeerConfig, PublicKey};
use crate::peer::PeerId;

/// All peers, those that take leave included: whoever asks looks whether it does. No two have the same key; of two
/// of the same name the first takes leave, and the other is found.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    by_key: HashMap<PublicKey, PeerId>,
    by_name: HashMap<String, PeerId>,
}

impl Directory {
    pub fn insert(&mut self, id: PeerId, config: &PeerConfig) {
        self.by_key.insert(config.public_key, id);
        self.by_name.insert(config.name.clone(), id);
    }

    pub fn remove(&mut self, id: PeerId, config: &PeerConfig) {
        if self.of_key(&config.public_key) == Some(id) {
            self.by_key.remove(&config.public_key);
        }
        if self.of_name(&config.name) == Some(id) {
            self.by_name.remove(&config.name);
        }
    }

    pub fn of_key(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    pub fn of_name(&self, name: &str) -> Option<PeerId> {
        self.by_name.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Addresses;

    fn config(name: &str, key: u8) -> PeerConfig {
        PeerConfig {
            name: name.into(),
            public_key: [key; 32],
            preshared_key: None,
            addresses: Addresses::default(),
            kind: None,
            disclosure: Default::default(),
            eid_v4: None,
            plain: None,
            policy: None,
            account: None,
        }
    }

    #[test]
    fn a_name_may_be_given_anew_before_its_former_bearer_is_gone() {
        let mut directory = Directory::default();
        directory.insert(PeerId(1), &config("nas", 1));
        directory.insert(PeerId(2), &config("nas", 2));
        directory.remove(PeerId(1), &config("nas", 1));
        assert_eq!(directory.of_name("nas"), Some(PeerId(2)));
        assert_eq!([directory.of_key(&[1; 32]), directory.of_key(&[2; 32])], [None, Some(PeerId(2))]);
        directory.remove(PeerId(2), &config("nas", 2));
        assert_eq!(directory.of_name("nas"), None);
    }
}

//! Where a peer may be reached, by the source that says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mast_proto::AddressSource;

/// The addresses of a peer. Each source has a list of its own, and replaces it as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses(BTreeMap<AddressSource, Vec<SocketAddr>>);

impl Addresses {
    /// What one source says.
    pub fn of(source: AddressSource, list: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut addresses = Self::default();
        addresses.set(source, list);
        addresses
    }

    /// Replaces what a source says; whether that is a change.
    pub fn set(&mut self, source: AddressSource, list: impl IntoIterator<Item = SocketAddr>) -> bool {
        let mut new: Vec<SocketAddr> = Vec::new();
        for at in list {
            if !new.contains(&at) {
                new.push(at);
            }
        }
        if self.get(source) == new {
            return false;
        }
        if new.is_empty() {
            self.0.remove(&source);
        } else {
            self.0.insert(source, new);
        }
        true
    }

    /// What a source says.
    pub fn get(&self, source: AddressSource) -> &[SocketAddr] {
        self.0.get(&source).map(Vec::as_slice).unwrap_or_default()
    }

    /// What every source says.
    pub fn lists(&self) -> impl Iterator<Item = (AddressSource, &[SocketAddr])> {
        self.0.iter().map(|(source, list)| (*source, list.as_slice()))
    }

    /// All addresses; one that several sources name comes more than once.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.0.values().flatten().copied()
    }

    /// Whether no source names any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

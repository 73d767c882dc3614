//! What two peers cannot both have. Each peer is looked up among those before it, however many these are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::Ipv4Addr;

use mast_engine::os::Prefix;

use super::peer::Found;
use super::reader::Report;
use crate::notation::masked;

/// Everything that the peers so far claim, each with the first that does.
#[derive(Default)]
pub(super) struct Claims {
    /// How many peers there were.
    count: usize,
    names: Holders<String>,
    keys: Holders<[u8; 32]>,
    /// Both IPv4 EIDs of MAST peers.
    eids: Holders<Ipv4Addr>,
    /// The IPv4 EIDs of the other ends: what leads to a MAST peer.
    remotes: Holders<Ipv4Addr>,
    ranges: Holders<Prefix>,
}

/// Who has what, and the line that says so.
struct Holders<K>(HashMap<K, Holder>);

#[derive(Clone)]
struct Holder {
    /// Which of the peers.
    number: usize,
    name: String,
    line: usize,
}

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Holders<K> {
    /// Enters a claim; whoever has it already, if that is another peer.
    fn enter(&mut self, claimed: K, holder: &Holder) -> Option<&Holder> {
        match self.0.entry(claimed) {
            Entry::Occupied(entry) => Some(&*entry.into_mut()).filter(|other| other.number != holder.number),
            Entry::Vacant(entry) => {
                entry.insert(holder.clone());
                None
            }
        }
    }
}

impl Claims {
    /// Enters what a peer claims, and tells what another has already: at most one problem of each sort.
    pub fn enter(&mut self, report: &mut Report<'_>, found: &Found) {
        let peer = &found.peer.peer;
        self.count += 1;
        let holder = self.holder(found, found.line);
        if let Some(other) = self.names.enter(peer.name.clone(), &holder) {
            let message =
                format!("two peers are called `{}` (the other: line {}): rename one", peer.name, other.line);
            report.problem(found.line, message);
        }
        if let Some(other) = self.keys.enter(peer.public_key, &holder) {
            let message = format!(
                "`{}` and `{}` (line {}) have the same `public_key`",
                peer.name, other.name, other.line
            );
            report.problem(found.line, message);
        }
        self.enter_eids(report, found);
        self.enter_ranges(report, found);
    }

    fn holder(&self, found: &Found, line: usize) -> Holder {
        Holder { number: self.count, name: found.peer.peer.name.clone(), line }
    }

    fn enter_eids(&mut self, report: &mut Report<'_>, found: &Found) {
        let Some(pair) = found.peer.peer.eid_v4 else { return };
        let (name, line) = (&found.peer.peer.name, found.eid_line);
        let holder = self.holder(found, line);
        let mut clash = None;
        for address in [pair.own, pair.other] {
            if let Some(other) = self.eids.enter(address, &holder) {
                clash = clash.or_else(|| Some((address, other.clone())));
            }
        }
        if let Some((address, other)) = clash {
            let message = format!(
                "`peer.eid_v4`: {address} of `{name}` also belongs to `{}` (line {}): choose another pair",
                other.name, other.line
            );
            report.problem(line, message);
        }
        let _ = self.remotes.enter(pair.other, &holder);
        if let Some(plain) = self.ranges.0.get(&Prefix::host(pair.other.into())) {
            report.problem(line, in_allowed(pair.other, name, &plain.name));
        }
    }

    fn enter_ranges(&mut self, report: &mut Report<'_>, found: &Found) {
        let Some(plain) = &found.peer.peer.plain else { return };
        let (name, line) = (&found.peer.peer.name, found.allowed_line);
        let holder = self.holder(found, line);
        let mut clash = None;
        for range in plain.allowed.iter().copied() {
            if let Some(other) = self.ranges.enter(masked(range), &holder) {
                clash = clash.or_else(|| Some((range, other.clone())));
            }
            if let std::net::IpAddr::V4(address) = range.address
                && range.length == 32
                && let Some(mast) = self.remotes.0.get(&address)
            {
                report.problem(mast.line, in_allowed(address, &mast.name, name));
            }
        }
        if let Some((range, other)) = clash {
            let message = format!(
                "`peer.allowed_ips`: {range} of `{name}` also belongs to `{}` (line {}): it can lead to one of \
                 them only",
                other.name, other.line
            );
            report.problem(line, message);
        }
    }
}

fn in_allowed(eid: Ipv4Addr, mast: &str, plain: &str) -> String {
    format!("`peer.eid_v4`: {eid}/32 of `{mast}` is also in `allowed_ips` of `{plain}`")
}

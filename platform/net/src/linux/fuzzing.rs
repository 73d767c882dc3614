//! What reads bytes of the kernel and of files, for `tests/fuzz`: each takes any bytes, and asserts what must hold.
//!
//! Nothing of a service calls these.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use mast_engine::os::{Family, Offload};

use super::radio::Station;
use super::{netlink, nl80211, occupied, protection, rtnl, sessions, vnet};

/// A datagram of netlink: an answer to a request or an announcement, of rtnetlink or of nl80211.
pub fn netlink(data: &[u8]) {
    let messages = netlink::messages(data);
    assert!(messages.len() <= data.len() / 16 + 1);
    for message in &messages {
        let _ = netlink::outcome(message);
        let _ = (rtnl::local(message, 1), rtnl::table_of(message), nl80211::ssid(message));
        let _ = nl80211::find(message, nl80211::ATTRIBUTE_STATION).map(Station::read);
        let _ = nl80211::find(message, nl80211::CONTROL_MULTICAST_GROUPS).map(nl80211::mlme);
        for family in [Family::V4, Family::V6] {
            let _ = protection::ours(message, family);
        }
    }
    let links: Vec<_> = messages.iter().filter_map(rtnl::Link::parse).collect();
    let addresses: Vec<_> = messages.iter().filter_map(rtnl::Assigned::parse).collect();
    let mut routes = BTreeSet::new();
    for message in &messages {
        let _ = rtnl::Route::parse(message, &mut routes);
    }
    static RESOLVERS: OnceLock<Mutex<occupied::Resolvers>> = OnceLock::new();
    let mut resolvers = RESOLVERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let own = occupied::Own::default();
    let all = occupied::occupied(&links, &addresses, &routes, &mut resolvers, &own);
    assert!(all.keys().all(|prefix| prefix.address.is_ipv4() && prefix.length <= 32), "{all:?}");
    let announced = netlink::Announced::Messages(messages);
    let mut concern = rtnl::Concern::default();
    concern.add(&announced, &BTreeSet::from([1, 7]));
    let _ = nl80211::tells_of_quality(&announced);
}

/// The header that a TUN device puts before a frame.
pub fn vnet_header(data: &[u8]) {
    let Some(header) = data.first_chunk() else { return };
    let offload = vnet::decode(header);
    for v6 in [false, true] {
        let again = vnet::decode(&vnet::encode(offload, v6));
        assert_eq!(again.partial, offload.partial);
    }
    if header == &[0; vnet::HEADER] {
        assert_eq!(offload, Offload::default());
    }
}

/// Text files of the system: `resolv.conf`, and the kernel's tables of sockets.
pub fn system_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(occupied::servers(&text).iter().all(|server| !server.is_loopback()));
    let here = [std::net::Ipv4Addr::LOCALHOST.into()];
    for line in text.lines() {
        let _ = sessions::is_one(line, &here, &here);
    }
}

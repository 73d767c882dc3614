//! What reads bytes of the kernel and of files, for `tests/fuzz`: each takes any bytes, and asserts what must hold.
//!
//! Nothing of a service calls these.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use mast_engine::os::{Arrival, Family, Offload};

use super::radio::Station;
use super::{answers, batch, guard, netlink, nftables, nl80211, occupied, protection, rtnl, sessions, vnet};

/// A datagram of netlink: an answer to a request or an announcement, of rtnetlink or of nl80211.
pub fn netlink(data: &[u8]) {
    let messages = netlink::messages(data);
    assert!(messages.len() <= data.len() / 16 + 1);
    for message in &messages {
        let _ = netlink::outcome(message);
        let _ = (rtnl::local(message, 1), rtnl::table_of(message), nl80211::ssid(message));
        if let Some(rule) = answers::Rule::parse(message) {
            assert_eq!(answers::Rule::parse(message), Some(rule));
        }
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

/// A datagram of nftables: an answer, a dump or an announcement.
pub fn nftables(data: &[u8]) {
    const NAME: &[u8] = b"mast-protection";
    for message in netlink::messages(data) {
        let refused = netlink::outcome(&message).err();
        assert!(refused.is_none_or(
            |error| nftables::is_missing(&error) || !guard::explain(&error).to_string().is_empty()
        ));
        let named = message.payload.windows(NAME.len()).any(|bytes| bytes == NAME);
        assert!(named || !guard::concerns(&message), "another's table is taken for the own one");
    }
}

/// The control messages that come with a datagram of a socket.
pub fn control(data: &[u8]) {
    let remote = ([192, 0, 2, 1], 6278).into();
    let mut arrival = Arrival { length: 1_200, stride: 1_200, remote, local: None, class: 0 };
    batch::note(&mut arrival, data);
    assert!(arrival.stride > 0 && (arrival.length, arrival.remote) == (1_200, remote));
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

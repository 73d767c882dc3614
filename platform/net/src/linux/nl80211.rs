//! What nl80211 knows of Wi-Fi: the network's name, the station, and when the connection gets better or worse.

use std::io;

use super::netlink::{
    Announced, Events, Message, NETLINK_GENERIC, NetlinkError, Request, Requests, attributes, text, u16_at,
    u32_at,
};
use super::radio::Station;

/// The generic netlink family that knows the other families.
const CONTROL: u16 = 16;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;
pub(super) const CONTROL_MULTICAST_GROUPS: u16 = 7;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;
/// The multicast group that tells of connections.
const MLME: &[u8] = b"mlme\0";
const GET_INTERFACE: u8 = 5;
const GET_STATION: u8 = 17;
/// The connection crossed a threshold, lost many frames in a row, or hears no beacons.
const NOTIFY_QUALITY: u8 = 64;
pub(super) const ATTRIBUTE_STATION: u16 = 21;
const ATTRIBUTE_INDEX: u16 = 3;
const ATTRIBUTE_SSID: u16 = 52;

/// A connection to nl80211.
#[derive(Debug)]
pub(super) struct Nl80211 {
    requests: Requests,
    family: u16,
    mlme: Option<u32>,
}

impl Nl80211 {
    /// Fails if the kernel has no Wi-Fi.
    pub(super) fn open() -> io::Result<Self> {
        let mut requests = Requests::open(NETLINK_GENERIC)?;
        let request = Request::new(CONTROL, 0, &[CONTROL_GET_FAMILY, 1, 0, 0])
            .attribute(CONTROL_FAMILY_NAME, b"nl80211\0");
        let reply = requests.get(request)?;
        let family = reply
            .as_ref()
            .and_then(|message| find(message, CONTROL_FAMILY_ID))
            .and_then(|value| u16_at(value, 0))
            .ok_or(io::ErrorKind::NotFound)?;
        let mlme = reply.as_ref().and_then(|message| find(message, CONTROL_MULTICAST_GROUPS)).and_then(mlme);
        Ok(Self { requests, family, mlme })
    }

    /// What is known of the station that an interface is associated with, if any.
    pub(super) fn station(&mut self, index: u32) -> Result<Option<Station>, NetlinkError> {
        let request = Request::new(self.family, 0, &[GET_STATION, 0, 0, 0])
            .attribute(ATTRIBUTE_INDEX, &index.to_ne_bytes());
        let all = self.requests.dump(&request)?;
        // One, unless others are associated with this host.
        Ok(all.first().and_then(|message| find(message, ATTRIBUTE_STATION)).map(Station::read))
    }

    /// Where the kernel tells of better and worse connections, as the program that manages the Wi-Fi asked it to.
    pub(super) fn quality(&self) -> io::Result<Events> {
        Events::of_group(NETLINK_GENERIC, self.mlme.ok_or(io::ErrorKind::NotFound)?)
    }

    /// The SSID of the network that an interface is associated with, if any.
    pub(super) fn ssid(&mut self, index: u32) -> Result<Option<String>, NetlinkError> {
        let request = Request::new(self.family, 0, &[GET_INTERFACE, 0, 0, 0])
            .attribute(ATTRIBUTE_INDEX, &index.to_ne_bytes());
        Ok(self.requests.get(request)?.as_ref().and_then(ssid))
    }
}

pub(super) fn find(message: &Message, kind: u16) -> Option<&[u8]> {
    attributes(message.payload.get(4..)?).find(|a| a.0 == kind).map(|a| a.1)
}

/// An SSID is up to 32 bytes of any sort, mostly UTF-8; hidden ones are empty or all zeros.
pub(super) fn ssid(message: &Message) -> Option<String> {
    let value = find(message, ATTRIBUTE_SSID)?;
    (!text(value).is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
}

/// Whether a connection got better or worse among what was announced.
pub(super) fn tells_of_quality(announced: &Announced) -> bool {
    match announced {
        Announced::Messages(messages) => messages.iter().any(|m| m.payload.first() == Some(&NOTIFY_QUALITY)),
        Announced::Lost => true,
        Announced::Nothing => false,
    }
}

/// The number of the group that tells of connections.
pub(super) fn mlme(groups: &[u8]) -> Option<u32> {
    let value = |group: &[u8], kind| attributes(group).find(|a| a.0 == kind).map(|a| a.1.to_vec());
    let group = attributes(groups).map(|a| a.1).find(|g| value(g, GROUP_NAME).as_deref() == Some(MLME))?;
    u32_at(&value(group, GROUP_ID)?, 0)
}

//! The name of the Wi-Fi network, from nl80211.

use std::io;

use super::netlink::{Message, NETLINK_GENERIC, NetlinkError, Request, Requests, attributes, text, u16_at};

/// The generic netlink family that knows the other families.
const CONTROL: u16 = 16;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;
const GET_INTERFACE: u8 = 5;
const ATTRIBUTE_INDEX: u16 = 3;
const ATTRIBUTE_SSID: u16 = 52;

/// A connection to nl80211.
#[derive(Debug)]
pub(super) struct Nl80211 {
    requests: Requests,
    family: u16,
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
        Ok(Self { requests, family })
    }

    /// The SSID of the network that an interface is associated with, if any.
    pub(super) fn ssid(&mut self, index: u32) -> Result<Option<String>, NetlinkError> {
        let request = Request::new(self.family, 0, &[GET_INTERFACE, 0, 0, 0])
            .attribute(ATTRIBUTE_INDEX, &index.to_ne_bytes());
        Ok(self.requests.get(request)?.as_ref().and_then(ssid))
    }
}

fn find(message: &Message, kind: u16) -> Option<&[u8]> {
    attributes(message.payload.get(4..)?).find(|a| a.0 == kind).map(|a| a.1)
}

/// An SSID is up to 32 bytes of any sort, mostly UTF-8; hidden ones are empty or all zeros.
fn ssid(message: &Message) -> Option<String> {
    let value = find(message, ATTRIBUTE_SSID)?;
    (!text(value).is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
}

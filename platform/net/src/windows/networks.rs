//! Wi-Fi adapters and the list of networks: asked on a thread of its own, since the services that answer may take long.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::ptr::{null, null_mut};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::NetworkManagement::IpHelper::ConvertInterfaceGuidToLuid;
use windows_sys::Win32::NetworkManagement::Ndis::NET_LUID_LH;
use windows_sys::Win32::NetworkManagement::WiFi::{
    WLAN_CONNECTION_ATTRIBUTES, WLAN_INTERFACE_INFO, WLAN_INTERFACE_INFO_LIST, WLAN_INTF_OPCODE,
    wlan_intf_opcode_current_connection, wlan_intf_opcode_rssi,
};
use windows_sys::core::GUID;

use super::com::{
    CLASS, COST, GET_ADAPTER_ID, GET_CONNECTIONS, GET_COST, GET_NAME, GET_NETWORK, GetGuid, GetNumber, LIST,
    Object,
};
use super::notes::{self, Connection, Radio};
use super::registry;
use super::system::{Notes, Told};

/// How often they are asked.
const ROUND: Duration = Duration::from_secs(2);
/// How long the first answers are waited for.
const FIRST: Duration = Duration::from_secs(1);
/// A signal that is no better than this, in dBm, is told of when it changes.
const MIDDLING: i8 = -70;
/// The version of the interface since Windows Vista.
const VERSION: u32 = 2;

/// What is known of adapters.
#[derive(Debug, Clone, Default)]
pub(super) struct Networks(Arc<Mutex<BTreeMap<u64, Notes>>>);

/// Ends the looking when it is dropped.
pub(super) struct Looking(#[allow(dead_code, reason = "its end is what counts")] Sender<()>);

impl Networks {
    /// What was known at the last look.
    pub fn notes(&self) -> BTreeMap<u64, Notes> {
        super::locked(&self.0).clone()
    }

    /// Begins to look, and tells of what is new.
    pub fn look(&self, told: Arc<Told>) -> io::Result<Looking> {
        let (end, ended) = channel();
        let (done, first) = channel();
        let known = self.clone();
        let look = move || known.run(&told, &ended, &done);
        thread::Builder::new().name("mast-networks".to_owned()).spawn(look)?;
        // Whatever comes later is told.
        let _ = first.recv_timeout(FIRST);
        Ok(Looking(end))
    }

    fn run(&self, told: &Told, ended: &Receiver<()>, done: &Sender<()>) {
        super::com::begin();
        let mut manager = None;
        loop {
            let now = notes::join(radios(), connections(&mut manager));
            let before = std::mem::replace(&mut *super::locked(&self.0), now.clone());
            if differs(&before, &now) {
                told();
            }
            let _ = done.send(());
            match ended.recv_timeout(ROUND) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Whether anybody has to look again at once: a good signal changes all the time.
fn differs(before: &BTreeMap<u64, Notes>, now: &BTreeMap<u64, Notes>) -> bool {
    let coarse = |all: &BTreeMap<u64, Notes>| -> BTreeMap<u64, Notes> {
        let one = |(luid, notes): (&u64, &Notes)| {
            let signal = notes.signal.filter(|dbm| *dbm <= MIDDLING);
            (*luid, Notes { signal, ..notes.clone() })
        };
        all.iter().map(one).collect()
    };
    coarse(before) != coarse(now)
}

fn luid_of(guid: &GUID) -> Option<u64> {
    let mut luid = NET_LUID_LH::default();
    // SAFETY: both outlive the call; every bit pattern is a number.
    unsafe { (ConvertInterfaceGuidToLuid(guid, &mut luid) == 0).then_some(luid.Value) }
}

type Open = unsafe extern "system" fn(u32, *const c_void, *mut u32, *mut HANDLE) -> u32;
type Close = unsafe extern "system" fn(HANDLE, *const c_void) -> u32;
type List = unsafe extern "system" fn(HANDLE, *const c_void, *mut *mut WLAN_INTERFACE_INFO_LIST) -> u32;
type Query = unsafe extern "system" fn(
    HANDLE,
    *const GUID,
    WLAN_INTF_OPCODE,
    *const c_void,
    *mut u32,
    *mut *mut c_void,
    *mut i32,
) -> u32;
type Free = unsafe extern "system" fn(*const c_void);
type Any = unsafe extern "system" fn() -> isize;

/// The functions of `wlanapi.dll`, which a Windows Server may be without.
struct Wlan {
    open: Open,
    close: Close,
    list: List,
    query: Query,
    free: Free,
}

impl Wlan {
    fn load() -> Option<Self> {
        let function = |name| registry::function("wlanapi.dll", name);
        // SAFETY: each is the function of that name, and has this type.
        unsafe {
            Some(Self {
                open: std::mem::transmute::<Any, Open>(function(c"WlanOpenHandle")?),
                close: std::mem::transmute::<Any, Close>(function(c"WlanCloseHandle")?),
                list: std::mem::transmute::<Any, List>(function(c"WlanEnumInterfaces")?),
                query: std::mem::transmute::<Any, Query>(function(c"WlanQueryInterface")?),
                free: std::mem::transmute::<Any, Free>(function(c"WlanFreeMemory")?),
            })
        }
    }

    /// What an adapter says to one question, if that is as long as it must be.
    ///
    /// # Safety
    /// The handle is open, and `T` is what the question is answered by.
    unsafe fn ask<T: Copy>(&self, handle: HANDLE, adapter: &GUID, what: WLAN_INTF_OPCODE) -> Option<T> {
        let (mut size, mut data, mut kind) = (0, null_mut(), 0);
        // SAFETY: what comes back has as many bytes as is said, is copied, and is freed.
        unsafe {
            let code = (self.query)(handle, adapter, what, null(), &mut size, &mut data, &mut kind);
            if code != 0 || data.is_null() {
                return None;
            }
            let whole = size as usize >= size_of::<T>();
            let answer = whole.then(|| data.cast::<T>().read_unaligned());
            (self.free)(data);
            answer
        }
    }
}

/// The Wi-Fi adapters, with what they say. Without the service, or the library, there are none.
fn radios() -> BTreeMap<u64, Notes> {
    let mut all = BTreeMap::new();
    let Some(wlan) = Wlan::load() else { return all };
    // SAFETY: the list holds as many adapters as it says, and is freed once they were asked; the handle is closed.
    unsafe {
        let (mut handle, mut version) = (null_mut(), 0);
        if (wlan.open)(VERSION, null(), &mut version, &mut handle) != 0 {
            return all;
        }
        let mut list: *mut WLAN_INTERFACE_INFO_LIST = null_mut();
        if (wlan.list)(handle, null(), &mut list) == 0 && !list.is_null() {
            let count = (*list).dwNumberOfItems as usize;
            let first: *const WLAN_INTERFACE_INFO = (&raw const (*list).InterfaceInfo).cast();
            let adapters = std::slice::from_raw_parts(first, count);
            for adapter in adapters.iter().map(|adapter| &adapter.InterfaceGuid) {
                let Some(luid) = luid_of(adapter) else { continue };
                let connected: Option<WLAN_CONNECTION_ATTRIBUTES> =
                    wlan.ask(handle, adapter, wlan_intf_opcode_current_connection);
                let of = connected.as_ref().map(|connected| &connected.wlanAssociationAttributes);
                let name = of.map(|of| {
                    let length = (of.dot11Ssid.uSSIDLength as usize).min(of.dot11Ssid.ucSSID.len());
                    of.dot11Ssid.ucSSID.split_at(length).0
                });
                let signal = wlan.ask::<i32>(handle, adapter, wlan_intf_opcode_rssi);
                let radio = Radio { name, signal, quality: of.map(|of| of.wlanSignalQuality) };
                all.insert(luid, radio.notes());
            }
            (wlan.free)(list.cast());
        }
        (wlan.close)(handle, null());
    }
    all
}

/// The connections of the list of networks, which is asked for anew when it failed.
fn connections(manager: &mut Option<Object>) -> BTreeMap<u64, Connection> {
    let mut read = || -> Result<BTreeMap<u64, Connection>, i32> {
        // SAFETY: each method is called on an object of the interface it belongs to.
        unsafe {
            let list = match manager {
                Some(list) => list,
                None => manager.insert(Object::make(&CLASS, &LIST)?),
            };
            let each = list.get(GET_CONNECTIONS)?;
            let mut all = BTreeMap::new();
            while let Some(connection) = each.next() {
                let mut adapter = GUID::default();
                if connection.method::<GetGuid>(GET_ADAPTER_ID)(connection.0, &mut adapter) < 0 {
                    continue;
                }
                let Some(luid) = luid_of(&adapter) else { continue };
                let cost = connection.query(&COST).and_then(|cost| {
                    let mut bits = 0;
                    if cost.method::<GetNumber>(GET_COST)(cost.0, &mut bits) < 0 { None } else { Some(bits) }
                });
                let name = connection.get(GET_NETWORK).ok().and_then(|network| network.text(GET_NAME));
                all.insert(luid, Connection { name, cost });
            }
            Ok(all)
        }
    };
    let read = read();
    read.unwrap_or_else(|code| {
        tracing::debug!(code, "the list of networks does not answer");
        *manager = None;
        BTreeMap::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_at_once_and_until_nobody_wants_to_know() {
        let networks = Networks::default();
        let looking = networks.look(Arc::new(Box::new(|| {}))).map(drop);
        assert!(looking.is_ok());
        println!("{:?}", networks.notes());
    }

    #[test]
    fn a_good_signal_changes_unnoticed() {
        let notes = |signal| [(1, Notes { signal: Some(signal), ..Notes::default() })].into();
        assert!(!differs(&notes(-40), &notes(-60)));
        assert!(differs(&notes(-60), &notes(-75)) && differs(&notes(-75), &notes(-80)));
        assert!(differs(&BTreeMap::new(), &notes(-40)));
    }
}

//! The Windows Filtering Platform: hands it the filters of [`super::filters`], and reads their labels.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::windows::ffi::OsStrExt;
use std::ptr::{null, null_mut};
use std::rc::Rc;
use std::sync::Arc;

use mast_engine::os::Family;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, FWP_E_ALREADY_EXISTS, FWP_E_FILTER_NOT_FOUND, FWP_E_IN_USE,
    FWP_E_PROVIDER_NOT_FOUND, FWP_E_SUBLAYER_NOT_FOUND, HANDLE, LocalFree,
};
use windows_sys::Win32::NetworkManagement::WindowsFilteringPlatform::*;
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::PSECURITY_DESCRIPTOR;
use windows_sys::Win32::System::Rpc::RPC_C_AUTHN_WINNT;
use windows_sys::core::GUID;

use super::filters::{Condition, Filter, Layer, Life};
use super::iphelper::text;

/// MAST's own names for what it makes. Those of filters end in their number.
const PROVIDER: GUID = GUID::from_u128(0x6d617374_0000_4c65_8b6b_5f1d3c0a9e01);
const SUBLAYER: GUID = GUID::from_u128(0x6d617374_0000_4c65_8b6b_5f1d3c0a9e02);
const FILTERS: u128 = 0x6d617374_0001_4c65_8b6b_5f1d3c0a0000;
/// So many filters there are at most.
const MOST: u128 = 256;
/// Before all others.
const WEIGHT: u16 = u16::MAX;
/// How long others may change filters before this gives up, in milliseconds.
const PATIENCE: u32 = 5_000;
/// How many filters are read at once.
const BATCH: u32 = 256;
/// What the system says where its filtering engine does not run: `RPC_S_SERVER_UNAVAILABLE`, `RPC_S_CALL_FAILED`,
/// `EPT_S_NOT_REGISTERED`.
const NOBODY: [u32; 3] = [1722, 1726, 1753];

/// The providers that come with Windows.
const OF_WINDOWS: [GUID; 9] = [
    FWPM_PROVIDER_IKEEXT,
    FWPM_PROVIDER_IPSEC_DOSP_CONFIG,
    FWPM_PROVIDER_MPSSVC_APP_ISOLATION,
    FWPM_PROVIDER_MPSSVC_EDP,
    FWPM_PROVIDER_MPSSVC_TENANT_RESTRICTIONS,
    FWPM_PROVIDER_MPSSVC_WF,
    FWPM_PROVIDER_MPSSVC_WSH,
    FWPM_PROVIDER_TCP_CHIMNEY_OFFLOAD,
    FWPM_PROVIDER_TCP_TEMPLATES,
];

fn done(code: u32) -> io::Result<()> {
    if code == 0 {
        return Ok(());
    }
    if NOBODY.contains(&code) {
        let text = "the Base Filtering Engine of Windows does not run; start it (`sc start bfe`), and see that nobody \
                    switched it off";
        return Err(io::Error::new(io::ErrorKind::NotConnected, text));
    }
    let error = io::Error::from_raw_os_error(code.cast_signed());
    if code == ERROR_ACCESS_DENIED {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, error.to_string()));
    }
    Err(io::Error::other(format!("the system's filters: {error} (0x{code:08x})")))
}

/// Done, or there was nothing to do.
fn done_unless(code: u32, but: &[i32]) -> io::Result<()> {
    if but.contains(&code.cast_signed()) { Ok(()) } else { done(code) }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// A conversation with the filtering engine. A transaction that was not committed ends with it.
struct Engine(HANDLE);

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: it was opened once, and nobody uses it any more.
        unsafe { FwpmEngineClose0(self.0) };
    }
}

impl Engine {
    fn open() -> io::Result<Self> {
        // SAFETY: every bit pattern of zeros is such a structure; it outlives the call.
        unsafe {
            let session = FWPM_SESSION0 { txnWaitTimeoutInMSec: PATIENCE, ..std::mem::zeroed() };
            let mut handle = null_mut();
            done(FwpmEngineOpen0(null(), RPC_C_AUTHN_WINNT, null(), &session, &mut handle))?;
            Ok(Self(handle))
        }
    }

    /// Looks at all filters of the system, whoever's.
    fn each(&self, mut look: impl FnMut(&FWPM_FILTER0)) -> io::Result<()> {
        let mut handle = null_mut();
        // SAFETY: the engine fills in as many entries as it says, each good until they are freed.
        unsafe {
            done(FwpmFilterCreateEnumHandle0(self.0, null(), &mut handle))?;
            let result = loop {
                let (mut entries, mut count): (*mut *mut FWPM_FILTER0, u32) = (null_mut(), 0);
                if let Err(error) = done(FwpmFilterEnum0(self.0, handle, BATCH, &mut entries, &mut count)) {
                    break Err(error);
                }
                if count > 0 && !entries.is_null() {
                    let all = std::slice::from_raw_parts(entries, count as usize);
                    all.iter().filter_map(|entry| entry.as_ref()).for_each(&mut look);
                }
                if !entries.is_null() {
                    FwpmFreeMemory0((&raw mut entries).cast());
                }
                if count < BATCH {
                    break Ok(());
                }
            };
            FwpmFilterDestroyEnumHandle0(self.0, handle);
            result
        }
    }
}

fn is(a: &GUID, b: &GUID) -> bool {
    (a.data1, a.data2, a.data3, a.data4) == (b.data1, b.data2, b.data3, b.data4)
}

/// Whose a filter is.
fn provider(filter: &FWPM_FILTER0) -> Option<GUID> {
    // SAFETY: it is null, or leads to what the engine filled in.
    unsafe { filter.providerKey.as_ref() }.copied()
}

/// The labels of MAST's filters.
pub(super) fn labels() -> io::Result<Vec<String>> {
    let engine = Engine::open()?;
    let mut labels = Vec::new();
    engine.each(|filter| {
        if provider(filter).is_some_and(|whose| is(&whose, &PROVIDER)) {
            // SAFETY: it is null, or a text that the engine filled in.
            let label = unsafe { text(filter.displayData.description) };
            // One that is there and not asked is as good as none.
            labels.push(if filter.flags & FWPM_FILTER_FLAG_DISABLED == 0 { label } else { String::new() });
        }
    })?;
    Ok(labels)
}

/// The program of this process, as filters name it.
pub(super) fn program() -> io::Result<Arc<[u8]>> {
    let path: Vec<u16> = std::env::current_exe()?.as_os_str().encode_wide().chain([0]).collect();
    let mut blob: *mut FWP_BYTE_BLOB = null_mut();
    // SAFETY: the path ends in zero; the engine fills in as many bytes as it says, which are freed once they are copied.
    unsafe {
        done(FwpmGetAppIdFromFileName0(path.as_ptr(), &mut blob))?;
        let Some(found) = blob.as_ref().filter(|found| !found.data.is_null()) else {
            return Err(io::Error::other("the system does not name this program"));
        };
        let bytes = Arc::from(std::slice::from_raw_parts(found.data, found.size as usize));
        FwpmFreeMemory0((&raw mut blob).cast());
        Ok(bytes)
    }
}

/// Programs other than Windows itself that block something where MAST's datagrams come by.
pub(super) fn blockers() -> io::Result<Vec<String>> {
    let engine = Engine::open()?;
    let mut found: Vec<GUID> = Vec::new();
    engine.each(|filter| {
        let here = [Family::V4, Family::V6]
            .iter()
            .flat_map(|family| [Layer::Connect(*family), Layer::Accept(*family)])
            .any(|layer| is(&filter.layerKey, &layer_key(layer)));
        let Some(whose) = provider(filter).filter(|_| here && filter.action.r#type == FWP_ACTION_BLOCK)
        else {
            return;
        };
        let known = OF_WINDOWS.iter().chain([&PROVIDER]).chain(&found).any(|other| is(other, &whose));
        if !known {
            found.push(whose);
        }
    })?;
    let mut names = BTreeSet::new();
    for whose in found {
        let mut provider: *mut FWPM_PROVIDER0 = null_mut();
        // SAFETY: the engine fills in what it finds, which is freed once it was read.
        unsafe {
            if FwpmProviderGetByKey0(engine.0, &whose, &mut provider) != 0 {
                continue;
            }
            let Some(told) = provider.as_ref() else { continue };
            names.insert(text(told.displayData.name));
            FwpmFreeMemory0((&raw mut provider).cast());
        }
    }
    names.retain(|name| !name.is_empty() && !name.starts_with("Microsoft"));
    Ok(names.into_iter().collect())
}

/// Puts these in the place of MAST's filters, at once.
pub(super) fn replace(filters: &[Filter]) -> io::Result<()> {
    let engine = Engine::open()?;
    let mut there = Vec::new();
    engine.each(|filter| {
        if provider(filter).is_some_and(|whose| is(&whose, &PROVIDER)) {
            there.push(filter.filterKey);
        }
    })?;
    // Those of a boot may not be listed.
    there.extend((0..MOST).map(|number| GUID::from_u128(FILTERS + number)));
    // SAFETY: the keys outlive the calls.
    unsafe {
        done(FwpmTransactionBegin0(engine.0, 0))?;
        for key in &there {
            done_unless(FwpmFilterDeleteByKey0(engine.0, key), &[FWP_E_FILTER_NOT_FOUND])?;
        }
        if filters.is_empty() {
            let none = [FWP_E_SUBLAYER_NOT_FOUND, FWP_E_IN_USE];
            done_unless(FwpmSubLayerDeleteByKey0(engine.0, &SUBLAYER), &none)?;
            let none = [FWP_E_PROVIDER_NOT_FOUND, FWP_E_IN_USE];
            done_unless(FwpmProviderDeleteByKey0(engine.0, &PROVIDER), &none)?;
        } else {
            frame(&engine)?;
            for (number, filter) in filters.iter().enumerate() {
                add(&engine, number, filter)?;
            }
        }
        done(FwpmTransactionCommit0(engine.0))
    }
}

/// Makes provider and sublayer, if they are not there. With a service's name, the filters would end with that service.
fn frame(engine: &Engine) -> io::Result<()> {
    let (mut name, mut what) = (wide("MAST"), wide("Leak protection"));
    let shown = FWPM_DISPLAY_DATA0 { name: name.as_mut_ptr(), description: what.as_mut_ptr() };
    let nothing = FWP_BYTE_BLOB { size: 0, data: null_mut() };
    let provider = FWPM_PROVIDER0 {
        providerKey: PROVIDER,
        displayData: shown,
        flags: FWPM_PROVIDER_FLAG_PERSISTENT,
        providerData: nothing,
        serviceName: null_mut(),
    };
    let mut whose = PROVIDER;
    let sublayer = FWPM_SUBLAYER0 {
        subLayerKey: SUBLAYER,
        displayData: shown,
        flags: FWPM_SUBLAYER_FLAG_PERSISTENT,
        providerKey: &mut whose,
        providerData: nothing,
        weight: WEIGHT,
    };
    // SAFETY: all that is pointed to outlives the calls.
    unsafe {
        done_unless(FwpmProviderAdd0(engine.0, &provider, null_mut()), &[FWP_E_ALREADY_EXISTS])?;
        done_unless(FwpmSubLayerAdd0(engine.0, &sublayer, null_mut()), &[FWP_E_ALREADY_EXISTS])
    }
}

fn layer_key(layer: Layer) -> GUID {
    match layer {
        Layer::Connect(Family::V4) => FWPM_LAYER_ALE_AUTH_CONNECT_V4,
        Layer::Connect(Family::V6) => FWPM_LAYER_ALE_AUTH_CONNECT_V6,
        Layer::Accept(Family::V4) => FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
        Layer::Accept(Family::V6) => FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
        Layer::Forward(Family::V4) => FWPM_LAYER_IPFORWARD_V4,
        Layer::Forward(Family::V6) => FWPM_LAYER_IPFORWARD_V6,
    }
}

/// What the conditions of a filter point to, each at a place of its own until the filter was added.
#[derive(Default)]
struct Values {
    numbers: Vec<Rc<u64>>,
    bytes: Vec<Rc<[u8]>>,
    blobs: Vec<Rc<FWP_BYTE_BLOB>>,
    v4: Vec<Rc<FWP_V4_ADDR_AND_MASK>>,
    v6: Vec<Rc<FWP_V6_ADDR_AND_MASK>>,
}

/// The system only reads what is put here.
fn put<T>(all: &mut Vec<Rc<T>>, value: T) -> *mut T {
    let value = Rc::new(value);
    let at = Rc::as_ptr(&value).cast_mut();
    all.push(value);
    at
}

impl Values {
    fn blob(&mut self, bytes: &[u8]) -> *mut FWP_BYTE_BLOB {
        let bytes: Rc<[u8]> = bytes.into();
        let size = u32::try_from(bytes.len()).unwrap_or(0);
        let blob = FWP_BYTE_BLOB { size, data: bytes.as_ptr().cast_mut() };
        self.bytes.push(bytes);
        put(&mut self.blobs, blob)
    }

    fn condition(&mut self, condition: &Condition) -> io::Result<FWPM_FILTER_CONDITION0> {
        use FWP_CONDITION_VALUE0_0 as Value;
        let number = |luid: u64, own: &mut Self| Value { uint64: put(&mut own.numbers, luid) };
        let (field, kind, value) = match condition {
            Condition::Loopback => {
                (FWPM_CONDITION_FLAGS, FWP_UINT32, Value { uint32: FWP_CONDITION_FLAG_IS_LOOPBACK })
            }
            Condition::Adapter(luid) => (FWPM_CONDITION_IP_LOCAL_INTERFACE, FWP_UINT64, number(*luid, self)),
            Condition::Leaves(luid) => (FWPM_CONDITION_IP_FORWARD_INTERFACE, FWP_UINT64, number(*luid, self)),
            Condition::Program(program) => {
                let value = Value { byteBlob: self.blob(program) };
                (FWPM_CONDITION_ALE_APP_ID, FWP_BYTE_BLOB_TYPE, value)
            }
            Condition::Users(words) => {
                let value = Value { sd: self.blob(&descriptor(words)?) };
                (FWPM_CONDITION_ALE_USER_ID, FWP_SECURITY_DESCRIPTOR_TYPE, value)
            }
            Condition::Protocol(protocol) => {
                (FWPM_CONDITION_IP_PROTOCOL, FWP_UINT8, Value { uint8: *protocol })
            }
            Condition::Own(port) => (FWPM_CONDITION_IP_LOCAL_PORT, FWP_UINT16, Value { uint16: *port }),
            Condition::Other(port) => (FWPM_CONDITION_IP_REMOTE_PORT, FWP_UINT16, Value { uint16: *port }),
            // `FWPM_CONDITION_ICMP_TYPE` is another word for this one.
            Condition::Icmp(kind) => {
                (FWPM_CONDITION_IP_LOCAL_PORT, FWP_UINT16, Value { uint16: u16::from(*kind) })
            }
            Condition::To(range) => match range.address {
                IpAddr::V4(address) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(range.length)).unwrap_or(0);
                    let value = FWP_V4_ADDR_AND_MASK { addr: address.to_bits() & mask, mask };
                    let value = Value { v4AddrMask: put(&mut self.v4, value) };
                    (FWPM_CONDITION_IP_REMOTE_ADDRESS, FWP_V4_ADDR_MASK, value)
                }
                IpAddr::V6(address) => {
                    let value = FWP_V6_ADDR_AND_MASK { addr: address.octets(), prefixLength: range.length };
                    let value = Value { v6AddrMask: put(&mut self.v6, value) };
                    (FWPM_CONDITION_IP_REMOTE_ADDRESS, FWP_V6_ADDR_MASK, value)
                }
            },
        };
        let how = if *condition == Condition::Loopback { FWP_MATCH_FLAGS_ALL_SET } else { FWP_MATCH_EQUAL };
        let value = FWP_CONDITION_VALUE0 { r#type: kind, Anonymous: value };
        Ok(FWPM_FILTER_CONDITION0 { fieldKey: field, matchType: how, conditionValue: value })
    }
}

/// A security descriptor in its own words, as bytes.
fn descriptor(words: &str) -> io::Result<Vec<u8>> {
    let words = wide(words);
    let (mut made, mut size): (PSECURITY_DESCRIPTOR, u32) = (null_mut(), 0);
    // SAFETY: the words end in zero; what is made has as many bytes as is said, and is freed once they are copied.
    unsafe {
        let understood = ConvertStringSecurityDescriptorToSecurityDescriptorW(
            words.as_ptr(),
            SDDL_REVISION_1,
            &mut made,
            &mut size,
        );
        if understood == 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = std::slice::from_raw_parts(made.cast::<u8>(), size as usize).to_vec();
        LocalFree(made);
        Ok(bytes)
    }
}

fn add(engine: &Engine, number: usize, filter: &Filter) -> io::Result<()> {
    let mut values = Values::default();
    let conditions: io::Result<Vec<_>> = filter.conditions.iter().map(|c| values.condition(c)).collect();
    let mut conditions = conditions?;
    let (mut name, mut label) = (wide("MAST leak protection"), wide(&filter.label));
    let mut whose = PROVIDER;
    let number = number as u64;
    if u128::from(number) >= MOST {
        return Err(io::Error::other("there are too many filters"));
    }
    // The first one that fits decides: it is the one with the greatest weight.
    let weight = put(&mut values.numbers, u64::from(u32::MAX) - number);
    // SAFETY: every bit pattern of zeros is such a structure; all that is pointed to outlives the call.
    unsafe {
        let made = FWPM_FILTER0 {
            filterKey: GUID::from_u128(FILTERS + u128::from(number)),
            displayData: FWPM_DISPLAY_DATA0 { name: name.as_mut_ptr(), description: label.as_mut_ptr() },
            flags: match filter.life {
                Life::Persistent => FWPM_FILTER_FLAG_PERSISTENT,
                Life::Boot => FWPM_FILTER_FLAG_BOOTTIME,
            },
            providerKey: &mut whose,
            layerKey: layer_key(filter.layer),
            subLayerKey: SUBLAYER,
            weight: FWP_VALUE0 { r#type: FWP_UINT64, Anonymous: FWP_VALUE0_0 { uint64: weight } },
            numFilterConditions: u32::try_from(conditions.len()).unwrap_or(0),
            filterCondition: conditions.as_mut_ptr(),
            action: FWPM_ACTION0 {
                r#type: if filter.permit { FWP_ACTION_PERMIT } else { FWP_ACTION_BLOCK },
                ..std::mem::zeroed()
            },
            ..std::mem::zeroed()
        };
        done(FwpmFilterAdd0(engine.0, &made, null_mut(), null_mut()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_what_the_system_wants() {
        let mut values = Values::default();
        let mut made = |condition| values.condition(&condition).unwrap();
        let range = |text: &str, length| {
            Condition::To(mast_engine::os::Prefix { address: text.parse().unwrap(), length })
        };
        // SAFETY: the type of each says which it is, and what is pointed to lives as long as `values`.
        unsafe {
            let near = made(range("172.16.0.0", 12));
            assert_eq!(near.conditionValue.r#type, FWP_V4_ADDR_MASK);
            let told = *near.conditionValue.Anonymous.v4AddrMask;
            assert_eq!((told.addr, told.mask), (0xac10_0000, 0xfff0_0000));
            let one = made(range("255.255.255.255", 32)).conditionValue.Anonymous.v4AddrMask;
            assert_eq!(((*one).addr, (*one).mask), (u32::MAX, u32::MAX));
            let all = made(range("1.2.3.4", 0)).conditionValue.Anonymous.v4AddrMask;
            assert_eq!(((*all).addr, (*all).mask), (0, 0));
            let link = made(range("fe80::", 10)).conditionValue.Anonymous.v6AddrMask;
            let link = *link;
            assert_eq!((link.addr[..2].to_vec(), link.prefixLength), (vec![0xfe, 0x80], 10));
            let adapter = made(Condition::Adapter(0x35_0000_1234_0000)).conditionValue;
            assert_eq!((adapter.r#type, *adapter.Anonymous.uint64), (FWP_UINT64, 0x35_0000_1234_0000));
            let program = made(Condition::Program([1, 2, 3].into())).conditionValue.Anonymous.byteBlob;
            assert_eq!(std::slice::from_raw_parts((*program).data, (*program).size as usize), [1, 2, 3]);
            let users = made(Condition::Users(super::super::filters::USERS)).conditionValue.Anonymous.sd;
            // Revision 1, self-relative.
            assert!((*users).size > 20 && *(*users).data == 1 && *(*users).data.add(3) & 0x80 != 0);
            let loopback = made(Condition::Loopback);
            assert_eq!(loopback.matchType, FWP_MATCH_FLAGS_ALL_SET);
        }
    }

    #[test]
    fn an_engine_that_does_not_run_is_told_from_a_refusal() {
        assert_eq!(done(ERROR_ACCESS_DENIED).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let error = done(NOBODY[0]).unwrap_err();
        assert!(error.to_string().contains("sc start bfe"), "{error}");
        done_unless(FWP_E_FILTER_NOT_FOUND.cast_unsigned(), &[FWP_E_FILTER_NOT_FOUND]).unwrap();
        done_unless(FWP_E_IN_USE.cast_unsigned(), &[FWP_E_FILTER_NOT_FOUND]).unwrap_err();
    }

    #[test]
    fn labels_can_be_read_where_there_are_none() {
        // No test sets a filter, which would outlive it.
        println!("{:?}", labels());
    }
}

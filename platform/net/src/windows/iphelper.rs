//! IP Helper: adapters, addresses, routes, and what the system announces of them.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;

use mast_engine::os::{Family, Prefix, TunWish};
use mast_proto::Interface;
use windows_registry::LOCAL_MACHINE;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_BUFFER_OVERFLOW, ERROR_FILE_NOT_FOUND, ERROR_NO_DATA, ERROR_NOT_FOUND,
    ERROR_OBJECT_ALREADY_EXISTS, FILETIME, HANDLE,
};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    CancelMibChangeNotify2, ConvertInterfaceAliasToLuid, ConvertInterfaceLuidToIndex, CreateIpForwardEntry2,
    CreateUnicastIpAddressEntry, DeleteIpForwardEntry2, DeleteUnicastIpAddressEntry, FreeMibTable,
    GAA_FLAG_INCLUDE_GATEWAYS, GAA_FLAG_SKIP_ANYCAST, GAA_FLAG_SKIP_MULTICAST, GetAdaptersAddresses,
    GetIfEntry2, GetIpForwardTable2, GetIpInterfaceEntry, IP_ADAPTER_ADDRESSES_LH, InitializeIpForwardEntry,
    InitializeIpInterfaceEntry, InitializeUnicastIpAddressEntry, MIB_IF_ROW2, MIB_IPFORWARD_ROW2,
    MIB_IPFORWARD_TABLE2, MIB_IPINTERFACE_ROW, MIB_NOTIFICATION_TYPE, MIB_UNICASTIPADDRESS_ROW,
    NotifyIpInterfaceChange, NotifyRouteChange2, NotifyUnicastIpAddressChange, SetIpInterfaceEntry,
};
use windows_sys::Win32::NetworkManagement::Ndis::{IfOperStatusUp, NET_LUID_LH};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, AF_UNSPEC, IN_ADDR, IN6_ADDR, IpDadStateDeprecated, IpDadStatePreferred, SOCKADDR_IN,
    SOCKADDR_IN6, SOCKADDR_INET, SOCKET_ADDRESS,
};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::Threading::{GetCurrentThread, GetThreadTimes};
use windows_sys::Win32::System::WindowsProgramming::QueryUnbiasedInterruptTime;

use super::filters::Filter;
use super::networks::{self, Networks};
use super::system::{Adapter, Address, Kind, Notes, Route, System, Told, Value};
use super::udp::WindowsUdp;
use super::{registry, resolver, wfp, wintun};

/// The first bit of `InterfaceAndOperStatusFlags`.
const HARDWARE: u8 = 1;
/// What adapters take at first, in bytes; it grows.
const ROOM: u32 = 32 * 1024;

/// The system itself.
#[derive(Debug, Clone, Default)]
pub struct IpHelper {
    networks: Networks,
}

pub(super) fn done(code: u32) -> io::Result<()> {
    let kind = match code {
        0 => return Ok(()),
        ERROR_OBJECT_ALREADY_EXISTS => io::ErrorKind::AlreadyExists,
        ERROR_NOT_FOUND | ERROR_FILE_NOT_FOUND => io::ErrorKind::NotFound,
        ERROR_ACCESS_DENIED => io::ErrorKind::PermissionDenied,
        _ => return Err(io::Error::from_raw_os_error(code.cast_signed())),
    };
    Err(io::Error::new(kind, io::Error::from_raw_os_error(code.cast_signed()).to_string()))
}

/// # Safety
/// `text` is null, or ends in zero.
pub(super) unsafe fn text(text: *const u16) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the condition says.
    unsafe {
        let length = (0..).take_while(|at| *text.add(*at) != 0).count();
        String::from_utf16_lossy(std::slice::from_raw_parts(text, length))
    }
}

/// # Safety
/// `at` holds the address of a socket of its family, or null.
unsafe fn address(at: &SOCKET_ADDRESS) -> Option<IpAddr> {
    if at.lpSockaddr.is_null() {
        return None;
    }
    // SAFETY: as the condition says; what is of another family is not looked at.
    unsafe {
        match (*at.lpSockaddr).sa_family {
            AF_INET => {
                let ip = (*at.lpSockaddr.cast::<SOCKADDR_IN>()).sin_addr.S_un.S_addr;
                Some(Ipv4Addr::from(u32::from_be(ip)).into())
            }
            AF_INET6 => {
                let ip = (*at.lpSockaddr.cast::<SOCKADDR_IN6>()).sin6_addr.u.Byte;
                Some(Ipv6Addr::from(ip).into())
            }
            _ => None,
        }
    }
}

fn ip_of(at: &SOCKADDR_INET) -> Option<IpAddr> {
    // SAFETY: the family says which of the two it is, and every bit pattern is an address.
    unsafe {
        match at.si_family {
            AF_INET => Some(Ipv4Addr::from(u32::from_be(at.Ipv4.sin_addr.S_un.S_addr)).into()),
            AF_INET6 => Some(Ipv6Addr::from(at.Ipv6.sin6_addr.u.Byte).into()),
            _ => None,
        }
    }
}

fn sockaddr(ip: IpAddr) -> SOCKADDR_INET {
    let mut at = SOCKADDR_INET::default();
    match ip {
        IpAddr::V4(ip) => {
            let mut address = IN_ADDR::default();
            address.S_un.S_addr = ip.to_bits().to_be();
            at.Ipv4 = SOCKADDR_IN { sin_family: AF_INET, sin_addr: address, ..SOCKADDR_IN::default() };
        }
        IpAddr::V6(ip) => {
            let mut address = IN6_ADDR::default();
            address.u.Byte = ip.octets();
            at.Ipv6 = SOCKADDR_IN6 { sin6_family: AF_INET6, sin6_addr: address, ..SOCKADDR_IN6::default() };
        }
    }
    at
}

fn luid(value: u64) -> NET_LUID_LH {
    NET_LUID_LH { Value: value }
}

/// Links of a list of the system's, one after the other.
///
/// # Safety
/// `first` and what `next` says are null or good for as long as the result is used.
unsafe fn list<'a, T>(first: *const T, next: impl Fn(&T) -> *const T) -> impl Iterator<Item = &'a T>
where
    T: 'a,
{
    let mut at = first;
    std::iter::from_fn(move || {
        // SAFETY: as the condition says.
        let now = unsafe { at.as_ref() }?;
        at = next(now);
        Some(now)
    })
}

/// One adapter, as the system describes it.
///
/// # Safety
/// It is one that `GetAdaptersAddresses` filled in, with all that it points to.
unsafe fn adapter(raw: &IP_ADAPTER_ADDRESSES_LH) -> Adapter {
    // SAFETY: as the condition says; every pointer of it is null or leads to what the system filled in.
    unsafe {
        let addresses = list(raw.FirstUnicastAddress.cast_const(), |a| a.Next.cast_const())
            .filter_map(|a| {
                let deprecated = a.DadState == IpDadStateDeprecated;
                Some(Address {
                    ip: address(&a.Address)?,
                    prefix: a.OnLinkPrefixLength,
                    usable: deprecated || a.DadState == IpDadStatePreferred,
                    deprecated,
                })
            })
            .collect();
        let gateways = list(raw.FirstGatewayAddress.cast_const(), |g| g.Next.cast_const());
        let servers = list(raw.FirstDnsServerAddress.cast_const(), |s| s.Next.cast_const());
        let v4 = raw.Anonymous1.Anonymous.IfIndex;
        Adapter {
            luid: raw.Luid.Value,
            index: if v4 == 0 { raw.Ipv6IfIndex } else { v4 },
            name: text(raw.FriendlyName),
            description: text(raw.Description),
            kind: Kind(raw.IfType),
            hardware: is_hardware(raw.Luid),
            up: raw.OperStatus == IfOperStatusUp,
            mtu: raw.Mtu,
            addresses,
            gateways: gateways.filter_map(|g| address(&g.Address)).collect(),
            name_servers: servers.filter_map(|s| address(&s.Address)).collect(),
        }
    }
}

/// Whether an adapter stands for hardware. Of one that the system knows nothing more about, it is believed.
fn is_hardware(of: NET_LUID_LH) -> bool {
    let mut row = MIB_IF_ROW2 { InterfaceLuid: of, ..MIB_IF_ROW2::default() };
    // SAFETY: the row is the system's structure, and outlives the call.
    let code = unsafe { GetIfEntry2(&mut row) };
    code != 0 || row.InterfaceAndOperStatusFlags._bitfield & HARDWARE != 0
}

fn route_of(row: &MIB_IPFORWARD_ROW2) -> Option<Route> {
    let address = ip_of(&row.DestinationPrefix.Prefix)?;
    Some(Route {
        // SAFETY: every bit pattern is a number.
        luid: unsafe { row.InterfaceLuid.Value },
        prefix: Prefix { address, length: row.DestinationPrefix.PrefixLength },
        gateway: ip_of(&row.NextHop).filter(|gateway| !gateway.is_unspecified()),
        metric: row.Metric,
    })
}

fn row_of(route: &Route) -> MIB_IPFORWARD_ROW2 {
    let mut row = MIB_IPFORWARD_ROW2::default();
    // SAFETY: the row is the system's structure, and outlives the call.
    unsafe { InitializeIpForwardEntry(&mut row) };
    filled(row, route)
}

/// A row that the system has set what else is in it.
fn filled(mut row: MIB_IPFORWARD_ROW2, route: &Route) -> MIB_IPFORWARD_ROW2 {
    row.InterfaceLuid = luid(route.luid);
    row.DestinationPrefix.Prefix = sockaddr(route.prefix.masked().address);
    row.DestinationPrefix.PrefixLength = route.prefix.length;
    let none = if route.prefix.address.is_ipv4() {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    row.NextHop = sockaddr(route.gateway.unwrap_or(none));
    row.Metric = route.metric;
    row
}

fn address_row(of: u64, ip: IpAddr) -> MIB_UNICASTIPADDRESS_ROW {
    let mut row = MIB_UNICASTIPADDRESS_ROW::default();
    // SAFETY: the row is the system's structure, and outlives the call.
    unsafe { InitializeUnicastIpAddressEntry(&mut row) };
    with_address(row, of, ip)
}

/// A row that the system has set what else is in it.
fn with_address(mut row: MIB_UNICASTIPADDRESS_ROW, of: u64, ip: IpAddr) -> MIB_UNICASTIPADDRESS_ROW {
    row.InterfaceLuid = luid(of);
    row.Address = sockaddr(ip);
    row.OnLinkPrefixLength = Prefix::host(ip).length;
    // Nobody else can have it: no wait for answers.
    row.DadState = IpDadStatePreferred;
    row
}

/// What the system calls with changes, until this is dropped.
pub struct Watch {
    handles: Vec<HANDLE>,
    told: *const Told,
    /// Ends what looks at networks.
    _networks: networks::Looking,
}

// SAFETY: the handles belong to no thread, and what is told may be told from any.
unsafe impl Send for Watch {}

impl Drop for Watch {
    fn drop(&mut self) {
        for handle in &self.handles {
            // SAFETY: the handle is one of a registration that is ended once; when this returns nobody calls any more.
            unsafe { CancelMibChangeNotify2(*handle) };
        }
        // SAFETY: it came from `Arc::into_raw` once, and nobody calls any more.
        drop(unsafe { Arc::from_raw(self.told) });
    }
}

/// # Safety
/// `context` is what [`Watch`] holds.
unsafe extern "system" fn changed<T>(context: *const c_void, _row: *const T, _kind: MIB_NOTIFICATION_TYPE) {
    // SAFETY: the registration ends before what it points to.
    let told = unsafe { &*context.cast::<Told>() };
    told();
}

impl System for IpHelper {
    type Ring = wintun::Adapter;
    type Udp = WindowsUdp;
    type Watch = Watch;

    fn adapters(&self) -> io::Result<Vec<Adapter>> {
        let flags = GAA_FLAG_INCLUDE_GATEWAYS | GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST;
        let mut size = ROOM;
        loop {
            // Aligned as the structures in it.
            let mut room = vec![0u64; size.div_ceil(8) as usize];
            let first: *mut IP_ADAPTER_ADDRESSES_LH = room.as_mut_ptr().cast();
            // SAFETY: the room is as long as is said, and outlives what is read of it.
            let code = unsafe { GetAdaptersAddresses(u32::from(AF_UNSPEC), flags, null(), first, &mut size) };
            match code {
                0 => {}
                ERROR_NO_DATA => return Ok(Vec::new()),
                // It says how much it needs; more may have come meanwhile.
                ERROR_BUFFER_OVERFLOW => {
                    size = size.saturating_add(ROOM);
                    continue;
                }
                code => return Err(io::Error::from_raw_os_error(code.cast_signed())),
            }
            // SAFETY: the system filled it in, and it lives until the end of this.
            return Ok(unsafe {
                list(first.cast_const(), |a| a.Next.cast_const()).map(|a| adapter(a)).collect()
            });
        }
    }

    fn routes(&self) -> io::Result<Vec<Route>> {
        let mut table: *mut MIB_IPFORWARD_TABLE2 = null_mut();
        // SAFETY: the table is the system's, holds as many rows as it says, and is freed once they are read.
        unsafe {
            done(GetIpForwardTable2(AF_UNSPEC, &mut table))?;
            let count = (*table).NumEntries as usize;
            let rows = std::slice::from_raw_parts((&raw const (*table).Table).cast(), count);
            let routes = rows.iter().filter_map(route_of).collect();
            FreeMibTable(table.cast());
            Ok(routes)
        }
    }

    fn notes(&self) -> BTreeMap<u64, Notes> {
        self.networks.notes()
    }

    fn add_address(&self, luid: u64, address: IpAddr) -> io::Result<()> {
        // SAFETY: the row is the system's structure, and outlives the call; so it is below.
        done(unsafe { CreateUnicastIpAddressEntry(&address_row(luid, address)) })
    }

    fn remove_address(&self, luid: u64, address: IpAddr) -> io::Result<()> {
        // SAFETY: as above.
        done(unsafe { DeleteUnicastIpAddressEntry(&address_row(luid, address)) })
    }

    fn add_route(&self, route: &Route) -> io::Result<()> {
        // SAFETY: as above.
        done(unsafe { CreateIpForwardEntry2(&row_of(route)) })
    }

    fn remove_route(&self, route: &Route) -> io::Result<()> {
        // SAFETY: as above.
        done(unsafe { DeleteIpForwardEntry2(&row_of(route)) })
    }

    fn set_mtu(&self, of: u64, family: Family, mtu: u32) -> io::Result<()> {
        let mut row = MIB_IPINTERFACE_ROW::default();
        // SAFETY: as above.
        unsafe {
            InitializeIpInterfaceEntry(&mut row);
            row.Family = if family == Family::V4 { AF_INET } else { AF_INET6 };
            row.InterfaceLuid = luid(of);
            done(GetIpInterfaceEntry(&mut row))?;
            row.NlMtu = mtu;
            // Of routes of the same length, those into it go first.
            (row.UseAutomaticMetric, row.Metric) = (false, 0);
            // The system says so, and refuses it for IPv4 all the same.
            row.SitePrefixLength = 0;
            done(SetIpInterfaceEntry(&mut row))
        }
    }

    fn notify(&self, told: Told) -> io::Result<Watch> {
        let told = Arc::new(told);
        let _networks = self.networks.look(Arc::clone(&told))?;
        let told = Arc::into_raw(told);
        let mut watch = Watch { handles: Vec::new(), told, _networks };
        let context: *const c_void = told.cast();
        // SAFETY: what is called and what it is given live until the registrations end, with `watch`.
        unsafe {
            let mut handle: HANDLE = null_mut();
            done(NotifyIpInterfaceChange(AF_UNSPEC, Some(changed), context, false, &mut handle))?;
            watch.handles.push(handle);
            done(NotifyUnicastIpAddressChange(AF_UNSPEC, Some(changed), context, false, &mut handle))?;
            watch.handles.push(handle);
            done(NotifyRouteChange2(AF_UNSPEC, Some(changed), context, false, &mut handle))?;
            watch.handles.push(handle);
        }
        Ok(watch)
    }

    fn asleep(&self) -> Duration {
        let mut awake = 0;
        // SAFETY: asks for two numbers.
        let (told, all) = unsafe { (QueryUnbiasedInterruptTime(&mut awake), GetTickCount64()) };
        if told == 0 {
            return Duration::ZERO;
        }
        // In steps of 100 ns, and of a millisecond.
        Duration::from_millis(all).saturating_sub(Duration::from_micros(awake / 10))
    }

    fn make_ring(&self, wish: &TunWish) -> io::Result<wintun::Adapter> {
        wintun::Adapter::make(wish)
    }

    fn bind(
        &self,
        interface: &Interface,
        family: Family,
        port: u16,
        segments: bool,
    ) -> io::Result<WindowsUdp> {
        WindowsUdp::bind(interface, family, port, segments)
    }

    fn filters(&self) -> io::Result<Vec<String>> {
        wfp::labels()
    }

    fn set_filters(&self, filters: &[Filter]) -> io::Result<()> {
        wfp::replace(filters)
    }

    fn program(&self) -> io::Result<Arc<[u8]>> {
        wfp::program()
    }

    fn blockers(&self) -> io::Result<Vec<String>> {
        wfp::blockers()
    }

    fn keys(&self, path: &str) -> io::Result<Vec<String>> {
        registry::keys(LOCAL_MACHINE, path)
    }

    fn values(&self, path: &str) -> io::Result<BTreeMap<String, Value>> {
        registry::values(LOCAL_MACHINE, path)
    }

    fn write_key(&self, path: &str, values: &BTreeMap<String, Value>) -> io::Result<()> {
        registry::write(LOCAL_MACHINE, path, values)
    }

    fn delete_key(&self, path: &str) -> io::Result<()> {
        registry::delete(LOCAL_MACHINE, path)
    }

    fn set_name_servers(&self, of: u64, servers: &[IpAddr]) -> io::Result<()> {
        resolver::set_name_servers(&luid(of), servers)
    }

    fn names_changed(&self, by_policy: bool) {
        resolver::forget(by_policy);
    }

    fn driver(&self) -> Result<String, String> {
        wintun::state()
    }
}

/// The number of the interface of a name, as zones of addresses have it; none while there is no such interface.
pub fn number(name: &str) -> Option<u32> {
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    let (mut found, mut index) = (NET_LUID_LH::default(), 0);
    // SAFETY: the name ends in zero; the rest outlives the calls.
    unsafe {
        let known = ConvertInterfaceAliasToLuid(name.as_ptr(), &mut found) == 0
            && ConvertInterfaceLuidToIndex(&raw const found, &mut index) == 0;
        known.then_some(index)
    }
}

/// The MTU of an interface in bytes.
pub(super) fn mtu(index: u32) -> Option<u32> {
    let mut row = MIB_IF_ROW2 { InterfaceIndex: index, ..MIB_IF_ROW2::default() };
    // SAFETY: the row is the system's structure, and outlives the call.
    (unsafe { GetIfEntry2(&mut row) } == 0 && row.Mtu > 0).then_some(row.Mtu)
}

/// The processor time that this thread has used.
pub(super) fn processor_time() -> Option<Duration> {
    let [mut made, mut ended, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle of this thread is always good; the rest outlives the call.
    let told = unsafe { GetThreadTimes(GetCurrentThread(), &mut made, &mut ended, &mut kernel, &mut user) };
    let ticks = |time: FILETIME| (u64::from(time.dwHighDateTime) << 32) | u64::from(time.dwLowDateTime);
    (told != 0).then(|| Duration::from_nanos((ticks(kernel) + ticks(user)) * 100))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn adapters_and_routes_are_read() {
        let adapters = IpHelper::default().adapters().unwrap();
        let loopback = adapters.iter().find(|a| a.kind == Kind::LOOPBACK).expect("every system has one");
        assert!(loopback.up && loopback.index != 0 && loopback.luid != 0 && !loopback.name.is_empty());
        let own: Vec<IpAddr> = loopback.addresses.iter().map(|a| a.ip).collect();
        assert!(own.contains(&Ipv4Addr::LOCALHOST.into()), "{loopback:?}");
        for adapter in &adapters {
            assert_eq!(number(&adapter.name), Some(adapter.index), "{adapter:?}");
            assert!(adapter.addresses.iter().all(|a| a.prefix <= Prefix::host(a.ip).length));
        }
        for route in IpHelper::default().routes().unwrap() {
            assert!(adapters.iter().any(|a| a.luid == route.luid), "{route:?}");
            assert!(route.prefix.length <= Prefix::host(route.prefix.address).length);
        }
        assert_eq!(number("no such interface"), None);
    }

    #[test]
    fn addresses_and_routes_go_in_and_come_out_the_same() {
        for (text, length, gateway) in [
            ("10.77.0.0", 16, None),
            ("0.0.0.0", 1, Some("192.168.1.1")),
            ("fd77::", 48, None),
            ("8000::", 1, Some("fe80::1")),
            ("255.255.255.255", 32, None),
        ] {
            let prefix = Prefix { address: text.parse().unwrap(), length };
            let gateway = gateway.map(|g| g.parse().unwrap());
            let route = Route { luid: 0x1_0006_0000_0000, prefix, gateway, metric: 7 };
            // Wine cannot initialise one.
            assert_eq!(route_of(&filled(MIB_IPFORWARD_ROW2::default(), &route)), Some(route));
            let row = with_address(MIB_UNICASTIPADDRESS_ROW::default(), 5, prefix.address);
            assert_eq!(ip_of(&row.Address), Some(prefix.address));
            assert_eq!(row.OnLinkPrefixLength, if prefix.address.is_ipv4() { 32 } else { 128 });
            let family = if prefix.address.is_ipv4() { AF_INET } else { AF_INET6 };
            assert_eq!(family_of(&row.Address), family);
        }
    }

    fn family_of(at: &SOCKADDR_INET) -> u16 {
        // SAFETY: the family is at the same place in all.
        unsafe { at.si_family }
    }

    #[test]
    fn changes_are_registered_and_ended() {
        let watch = IpHelper::default().notify(Box::new(|| {}));
        match watch {
            Ok(watch) => drop(watch),
            // A system without them is read every few seconds.
            Err(error) => println!("not announced here: {error}"),
        }
        assert!(IpHelper::default().asleep() < Duration::from_secs(365 * 86_400));
        assert!(processor_time().is_some());
    }

    #[test]
    fn what_is_refused_has_its_kind() {
        for (code, kind) in [
            (ERROR_OBJECT_ALREADY_EXISTS, io::ErrorKind::AlreadyExists),
            (ERROR_NOT_FOUND, io::ErrorKind::NotFound),
            (ERROR_ACCESS_DENIED, io::ErrorKind::PermissionDenied),
        ] {
            assert_eq!(done(code).unwrap_err().kind(), kind);
        }
        done(0).unwrap();
    }
}

//! The system's resolver: name servers of an adapter, and what it remembers.

use std::io;
use std::net::IpAddr;

use windows_sys::Win32::NetworkManagement::IpHelper::{
    ConvertInterfaceLuidToGuid, DNS_INTERFACE_SETTINGS, DNS_INTERFACE_SETTINGS_VERSION1, DNS_SETTING_IPV6,
    DNS_SETTING_NAMESERVER,
};
use windows_sys::Win32::NetworkManagement::Ndis::NET_LUID_LH;
use windows_sys::core::{BOOL, GUID};

use super::iphelper::done;
use super::registry;

/// `SetInterfaceDnsSettings`, which came with Windows 10, version 2004.
type SetSettings = unsafe extern "system" fn(GUID, *const DNS_INTERFACE_SETTINGS) -> u32;
/// `DnsFlushResolverCache`, which no header names and `ipconfig /flushdns` calls.
type Flush = unsafe extern "system" fn() -> BOOL;
/// `RefreshPolicyEx`.
type Refresh = unsafe extern "system" fn(BOOL, u32) -> BOOL;
/// `RP_FORCE`: what is as it was is applied, too.
const FORCE: u32 = 1;

/// Gives an adapter these name servers, in the place of what it has.
pub(super) fn set_name_servers(of: &NET_LUID_LH, servers: &[IpAddr]) -> io::Result<()> {
    let Some(found) = registry::function("iphlpapi.dll", c"SetInterfaceDnsSettings") else {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this Windows is older than 10, version 2004: it cannot be told",
        ));
    };
    // SAFETY: it is the function of that name, and has this type.
    let set = unsafe { std::mem::transmute::<unsafe extern "system" fn() -> isize, SetSettings>(found) };
    let mut adapter = GUID::default();
    // SAFETY: both outlive the call.
    done(unsafe { ConvertInterfaceLuidToGuid(of, &mut adapter) })?;
    for v6 in [false, true] {
        let own: Vec<String> = servers.iter().filter(|s| s.is_ipv6() == v6).map(IpAddr::to_string).collect();
        let mut own: Vec<u16> = own.join(",").encode_utf16().chain([0]).collect();
        let family = if v6 { DNS_SETTING_IPV6 } else { 0 };
        let settings = DNS_INTERFACE_SETTINGS {
            Version: DNS_INTERFACE_SETTINGS_VERSION1,
            Flags: u64::from(DNS_SETTING_NAMESERVER | family),
            NameServer: own.as_mut_ptr(),
            ..DNS_INTERFACE_SETTINGS::default()
        };
        // SAFETY: the settings, and the text that they point to, outlive the call.
        done(unsafe { set(adapter, &settings) })?;
    }
    Ok(())
}

/// Has the resolver forget what it knows, and read rules of group policy again where they changed.
pub(super) fn forget(by_policy: bool) {
    if by_policy {
        match registry::function("userenv.dll", c"RefreshPolicyEx") {
            Some(found) => {
                // SAFETY: it is the function of that name, and has this type; it takes two numbers.
                let told = unsafe {
                    std::mem::transmute::<unsafe extern "system" fn() -> isize, Refresh>(found)(1, FORCE)
                };
                if told == 0 {
                    let error = io::Error::last_os_error();
                    tracing::warn!(%error, "rules for names may come into effect late");
                }
            }
            None => tracing::warn!("this Windows has no group policy, and rules of it"),
        }
    }
    if let Some(found) = registry::function("dnsapi.dll", c"DnsFlushResolverCache") {
        // SAFETY: it is the function of that name, and has this type; it takes nothing.
        let told = unsafe { std::mem::transmute::<unsafe extern "system" fn() -> isize, Flush>(found)() };
        if told == 0 {
            tracing::debug!("what the resolver knew, it may know still");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_told_where_it_can_be() {
        forget(false);
        // No adapter has this name: whether the system knows how, nothing is set.
        assert!(set_name_servers(&NET_LUID_LH { Value: 1 }, &[]).is_err());
    }
}

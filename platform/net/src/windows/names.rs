//! Names through the tunnel: a rule of the system's name resolution policy (NRPT), and name servers of the adapter.
//!
//! A rule for all names (`.`) has the system's resolver ask these servers and nobody else, whatever other adapters were
//! given. It lies in the registry, under a key of MAST's own that does not outlive a boot; one that a killed service left is
//! found and taken away. Where rules come by group policy, the system heeds those alone: there the rule stands beside them,
//! too. What a program asks some server by itself is not led elsewhere; leak protection keeps it from leaving.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use mast_engine::declared::Dns;

use super::system::{System, Value};

/// Where rules of this machine lie, and those of group policy.
pub const OWN: &str = r"SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig";
pub const POLICY: &str = r"SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig";
/// What MAST's is called.
pub const RULE: &str = "{6d617374-0002-4c65-8b6b-5f1d3c0a9e03}";
/// The rule names servers.
const SERVERS: u32 = 8;
const VERSION: u32 = 2;

fn at(place: &str) -> String {
    format!(r"{place}\{RULE}")
}

fn rule(servers: &[IpAddr]) -> BTreeMap<String, Value> {
    let servers: Vec<String> = servers.iter().map(IpAddr::to_string).collect();
    // The last three are empty texts where the system's own tool writes a rule.
    let values = [
        ("Name", Value::Texts(vec![".".into()])),
        ("GenericDNSServers", Value::Text(servers.join(";"))),
        ("ConfigOptions", Value::Number(SERVERS)),
        ("Version", Value::Number(VERSION)),
        ("DisplayName", Value::Text("MAST".into())),
        ("Comment", Value::Text(String::new())),
        ("IPSECCARestriction", Value::Text(String::new())),
    ];
    values.map(|(name, value)| (name.to_owned(), value)).into()
}

fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether somebody other than MAST has rules by group policy.
fn is_by_policy<S: System>(system: &S) -> io::Result<bool> {
    let keys = unless_missing(system.keys(POLICY))?.unwrap_or_default();
    Ok(keys.iter().any(|key| !key.eq_ignore_ascii_case(RULE)))
}

/// Whether the rule is there as it must be, and whether there is anything of it.
pub(super) fn present<S: System>(system: &S, dns: Option<&Dns>) -> io::Result<(bool, bool)> {
    let own = unless_missing(system.values(&at(OWN)))?;
    let policy = unless_missing(system.values(&at(POLICY)))?;
    let some = own.is_some() || policy.is_some();
    let Some(dns) = dns else { return Ok((false, some)) };
    let wanted = Some(rule(&dns.servers));
    let whole = own == wanted && if is_by_policy(system)? { policy == wanted } else { policy.is_none() };
    Ok((whole, some))
}

/// Has all names asked of these servers. Whole or not at all.
pub(super) fn set<S: System>(system: &S, adapter: u64, dns: &Dns) -> io::Result<()> {
    let by_policy = is_by_policy(system)?;
    let values = rule(&dns.servers);
    let places = [OWN].into_iter().chain(by_policy.then_some(POLICY));
    for place in places {
        if let Err(error) = system.write_key(&at(place), &values) {
            let _ = clear(system, None);
            return Err(error);
        }
    }
    if !by_policy {
        remove(system, POLICY)?;
    }
    // The rule counts; this is for whoever looks at the adapter, such as WSL.
    if let Err(error) = system.set_name_servers(adapter, &dns.servers) {
        tracing::debug!(%error, "the adapter has no name servers of its own");
    }
    system.names_changed(by_policy);
    Ok(())
}

/// Has names asked as before. Done if there is nothing of it.
pub(super) fn clear<S: System>(system: &S, adapter: Option<u64>) -> io::Result<()> {
    let own = remove(system, OWN);
    let policy = remove(system, POLICY);
    let policy_changed = *policy.as_ref().unwrap_or(&true);
    // A place without rules would be heeded all the same.
    if policy_changed && unless_missing(system.keys(POLICY))?.is_some_and(|keys| keys.is_empty()) {
        unless_missing(system.delete_key(POLICY))?;
    }
    if let Some(adapter) = adapter
        && let Err(error) = system.set_name_servers(adapter, &[])
    {
        tracing::debug!(%error, "the adapter keeps its name servers");
    }
    if *own.as_ref().unwrap_or(&true) || policy_changed {
        system.names_changed(policy_changed);
    }
    own.and(policy).map(drop)
}

/// Takes the rule away, and says whether it was there.
fn remove<S: System>(system: &S, place: &str) -> io::Result<bool> {
    Ok(unless_missing(system.delete_key(&at(place)))?.is_some())
}

//! What the kernel knows of processes and interfaces.

use std::time::Duration;

use mast_netlab::Host;

/// The memory of a process that is in RAM.
pub fn resident_bytes(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// The processor time that a process has used.
pub fn cpu_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process runs");
    // The name may hold spaces; what follows it does not. See proc(5): utime is the 14th field, stime the 15th.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|t| t.parse::<u64>().unwrap()).sum();
    // SAFETY: no pointers are involved.
    let rate = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / rate as f64)
}

/// Whether a host has an interface of this name.
pub fn has_interface(host: &Host, name: &str) -> bool {
    host.run(|| nix::net::if_::if_nametoindex(name).is_ok()).unwrap()
}

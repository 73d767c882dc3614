//! What processes have used, as the kernel counts it.

/// Clock ticks a second in `/proc`: the kernel's interface to user space fixes them.
const TICKS: f64 = 100.0;

/// Processor time of a process so far, all of its threads together, in seconds.
pub fn processor(id: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let after_name = text.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    // `utime` and `stime`, fields 14 and 15.
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

/// The most memory that a process has had (peak resident set), in bytes; nothing when it is gone.
pub fn peak_memory(id: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn this_process_uses_something() {
        let id = std::process::id();
        let before = peak_memory(id).unwrap();
        let size = 64 << 20;
        let data = std::hint::black_box(vec![1_u8; size]);
        let after = peak_memory(id).unwrap();
        assert!(after >= before && after >= size as f64, "{before} {after}");
        drop(data);
        let (used, start) = (processor(id), Instant::now());
        while start.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        assert!(processor(id) > used);
        assert_eq!(peak_memory(u32::MAX), None);
    }
}

//! What processes have used, as the kernel counts it.

use std::time::Duration;

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

/// The same as [`processor`] as the scheduler counts it, exact to less than a microsecond. What threads have used that
/// are gone is not in it.
pub fn precise(id: u32) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else { return Duration::ZERO };
    let nanoseconds = tasks.filter_map(Result::ok).filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
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

    use std::time::Instant;

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
        let (used, exactly, start) = (processor(id), precise(id), Instant::now());
        while start.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        assert!(processor(id) > used);
        assert!(precise(id) > exactly + Duration::from_millis(10));
        assert_eq!(peak_memory(u32::MAX), None);
    }
}

//! Numbers in words.

/// Milliseconds as a reader wants them.
pub fn millis(ms: f64) -> String {
    match ms {
        ms if !ms.is_finite() || ms < 0.0 => "?".to_owned(),
        ms if ms >= 9_999.5 => format!("{:.1} s", ms / 1000.0),
        ms if ms >= 9.95 => format!("{ms:.0} ms"),
        ms => format!("{ms:.1} ms"),
    }
}

/// How long ago something was.
pub fn ago(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => "just now".to_owned(),
        s @ 1..=119 => format!("{s} s ago"),
        s @ 120..=7199 => format!("{} min ago", s / 60),
        s @ 7200..=172_799 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// A number of bytes.
#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub fn bytes(count: u64) -> String {
    let mut rest = count as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if rest < 999.95 {
            return if unit == "B" { format!("{count} B") } else { format!("{rest:.1} {unit}") };
        }
        rest /= 1000.0;
    }
    format!("{rest:.1} PB")
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if !p.is_finite() => "?".to_owned(),
        p if p <= 0.0 => "0 %".to_owned(),
        p if p < 0.1 => "<0.1 %".to_owned(),
        p if p < 10.0 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(
            [millis(0.42), millis(9.96), millis(140.4), millis(12_345.0)],
            ["0.4 ms", "10 ms", "140 ms", "12.3 s"]
        );
        assert_eq!(millis(f64::NAN), "?");
        assert_eq!(
            [bytes(999), bytes(1000), bytes(999_960), bytes(u64::MAX)],
            ["999 B", "1.0 kB", "1.0 MB", "18446.7 PB"]
        );
        assert_eq!(
            [ago(900), ago(12_000), ago(600_000), ago(9_000_000)],
            ["just now", "12 s ago", "10 min ago", "2 h ago"]
        );
        assert_eq!(
            [percent(0.0), percent(0.0004), percent(0.012), percent(1.0)],
            ["0 %", "<0.1 %", "1.2 %", "100 %"]
        );
    }
}

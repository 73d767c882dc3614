//! Events in plain words.

use mast_control::Event;

use super::units;

/// One line: "12:04:31 wifi → cell: went silent, gap 140 ms".
pub fn sentence(event: &Event, with_peer: bool) -> String {
    let mut line = units::clock(&event.time);
    if with_peer && !event.peer.is_empty() {
        line += &format!(" {}:", event.peer);
    }
    match (&event.from, &event.to) {
        (None, None) => line += &format!(" {}", event.reason),
        (None, Some(to)) => line += &format!(" {} over {to}", event.reason),
        (Some(from), None) => line += &format!(" {from} → no path: {}", event.reason),
        (Some(from), Some(to)) => line += &format!(" {from} → {to}: {}", event.reason),
    }
    if let Some(gap) = event.gap_ms {
        line += &format!(", gap {}", units::millis(gap));
    }
    match event.sessions {
        None | Some(0) => {}
        Some(1) => line += ", 1 session kept",
        Some(n) => line += &format!(", {n} sessions kept"),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words() {
        let mut event = Event::now("home", "went silent");
        event.time = "garbled".into();
        event.from = Some("wifi".into());
        event.to = Some("cell".into());
        event.gap_ms = Some(140.2);
        assert_eq!(sentence(&event, false), "--:--:-- wifi → cell: went silent, gap 140 ms");
        assert_eq!(sentence(&event, true), "--:--:-- home: wifi → cell: went silent, gap 140 ms");
        event.sessions = Some(3);
        assert!(sentence(&event, false).ends_with("gap 140 ms, 3 sessions kept"));
        let plain = Event { time: "x".into(), ..Event::now("home", "restarted") };
        assert_eq!(sentence(&plain, true), "--:--:-- home: restarted");
    }
}

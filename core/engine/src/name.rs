//! Names of hosts and peers: text from strangers, shown to the user.

use mast_proto::wire::MAX_NAME;

/// Makes a name harmless: no control or invisible formatting characters, no surrounding space, bounded length.
/// `None` when nothing is left.
pub(crate) fn clean(name: &str) -> Option<String> {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let cleaned: String = name.chars().filter(|c| !harmful(*c)).collect();
    let bounded = bound(cleaned.trim(), MAX_NAME).trim_end();
    (!bounded.is_empty()).then(|| bounded.to_owned())
}

/// The name itself, or with the first of `-2`, `-3`, … that makes it unique.
pub(crate) fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    let mut number = 2_u32;
    loop {
        let suffix = format!("-{number}");
        let candidate = format!("{}{suffix}", bound(name, MAX_NAME - suffix.len()));
        if !taken(&candidate) || number == u32::MAX {
            return candidate;
        }
        number += 1;
    }
}

fn bound(text: &str, length: usize) -> &str {
    let mut end = text.len().min(length);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_harmless() {
        assert_eq!(clean(" lap\u{1b}top\n").as_deref(), Some("laptop"));
        assert_eq!(clean("\u{202e}\u{7}"), None);
        let long = clean(&"ä".repeat(60)).unwrap();
        assert_eq!(long, "ä".repeat(32));
    }

    #[test]
    fn names_are_made_unique() {
        let taken = |n: &str| n == "nas" || n == "nas-2";
        assert_eq!(unique("nas", taken), "nas-3");
        assert_eq!(unique("pi", taken), "pi");
        assert_eq!(unique(&"x".repeat(64), |n| n.len() == 64 && !n.ends_with("-2")).len(), 64);
    }
}

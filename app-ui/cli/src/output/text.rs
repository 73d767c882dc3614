//! Text from elsewhere. Names of peers and networks are chosen by strangers: they must not move the cursor,
//! recolour the terminal, break lines, or reorder what stands beside them.

use std::fmt::Write as _;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Whether a terminal may do something other than show the character.
fn unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text without what a terminal would act upon.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !unsafe_to_show(*c)).collect()
}

/// The data with every text in it cleaned, so that none can be forgotten.
pub fn cleaned<T: Serialize + DeserializeOwned>(data: T) -> T {
    let Ok(mut value) = serde_json::to_value(&data) else { return data };
    clean_value(&mut value);
    serde_json::from_value(value).unwrap_or(data)
}

fn clean_value(value: &mut Value) {
    match value {
        Value::String(text) if text.chars().any(unsafe_to_show) => *text = clean(text),
        Value::Array(items) => items.iter_mut().for_each(clean_value),
        Value::Object(fields) => {
            let entries = std::mem::take(fields).into_iter();
            *fields = entries.map(|(key, value)| (clean(&key), value)).collect();
            fields.values_mut().for_each(clean_value);
        }
        _ => {}
    }
}

/// JSON with the same characters written as escapes: nothing is lost, and a terminal shows it safely.
pub fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !unsafe_to_show(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        assert_eq!(clean("Tra\u{1b}[31min\r\n\u{9b}2J\u{202e}x\u{200b}é☕"), "Tra[31min2Jxé☕");
    }

    #[test]
    fn cleaning_reaches_every_text() {
        let data: Value = serde_json::json!({"a\u{7}": ["x\u{1b}", {"b": "\u{0}y"}], "n": 1});
        assert_eq!(cleaned(data), serde_json::json!({"a": ["x", {"b": "y"}], "n": 1}));
    }

    #[test]
    fn escapes_read_back_as_the_same_text() {
        let text = "a\u{9b}\u{202e}\u{e0001}\u{1b}é";
        let json = escape(&serde_json::to_string(text).unwrap());
        assert!(json.chars().all(|c| !unsafe_to_show(c)));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}

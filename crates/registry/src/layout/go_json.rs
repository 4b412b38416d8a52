//! JSON as Go's `encoding/json` writes it.

use serde::Serialize;

/// The characters that Go writes as escapes, so that its JSON may stand in HTML and in JavaScript. Outside of strings JSON has none
/// of them.
const ESCAPED: [char; 5] = ['<', '>', '&', '\u{2028}', '\u{2029}'];

/// The value in Go's bytes. Fields come in the order of the struct, keys of maps sorted, as Go has them.
pub(super) fn encode(value: &impl Serialize) -> String {
    let plain =
        serde_json::to_string(value).expect("strings and numbers under string keys are JSON");
    if !plain.contains(ESCAPED) {
        return plain;
    }
    let mut text = String::with_capacity(plain.len());
    for char in plain.chars() {
        if ESCAPED.contains(&char) {
            text.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            text.push(char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_escapes_what_html_minds() {
        assert_eq!(
            encode(&"a<b>&c\u{2028}"),
            r#""a\u003cb\u003e\u0026c\u2028""#
        );
        assert_eq!(encode(&"ä\"\\\n\t\u{1}"), "\"ä\\\"\\\\\\n\\t\\u0001\"");
    }
}

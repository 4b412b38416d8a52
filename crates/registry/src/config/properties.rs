//! Java's properties, as `java.util.Properties` reads them.

use serde_json::{Map, Value};

use super::format::Fault;

/// The deepest key: beyond that it is no key but an attack on the stack.
pub(super) const STEPS_MAX: usize = 64;

/// Reads lines `key=value`, `key: value` or `key value` into a tree of strings.
pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    let mut tree = Map::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, first)) = lines.next() {
        let line = first.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANK));
        }
        let fault = |reason| (number + 1, 1, reason);
        let (key, value) = split(&logical);
        let key = unescape(key).map_err(fault)?;
        insert(&mut tree, &key, unescape(value).map_err(fault)?).map_err(fault)?;
    }
    Ok(Value::Object(tree))
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

/// Whether the line ends in an odd number of backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Key and value, still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (matches!(c, '=' | ':') || BLANK.contains(&c));
        escaped = !escaped && c == '\\';
        ends
    });
    let Some(end) = end else { return (line, "") };
    let rest = line[end..].trim_start_matches(BLANK);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], value.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => plain.push(unicode(&mut chars)?),
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

/// What stands behind `\u`; two of them where Java writes a pair of surrogates.
fn unicode(chars: &mut std::str::Chars<'_>) -> Result<char, &'static str> {
    let first = unit(chars)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first.into()).ok_or(NO_UNIT);
    }
    let (Some('\\'), Some('u')) = (chars.next(), chars.next()) else {
        return Err(NO_UNIT);
    };
    let pair = char::decode_utf16([first, unit(chars)?]).next();
    pair.and_then(Result::ok).ok_or(NO_UNIT)
}

const NO_UNIT: &str = "\\u wants four hexadecimal digits of a character";

fn unit(chars: &mut std::str::Chars<'_>) -> Result<u16, &'static str> {
    let digits: String = chars.by_ref().take(4).collect();
    let plain = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain
        .then(|| u16::from_str_radix(&digits, 16).ok())
        .flatten()
        .ok_or(NO_UNIT)
}

/// Puts a value at a dotted key. What is said twice, the later word counts, as in Java; a key cannot be a value and a map.
pub(super) fn insert(
    tree: &mut Map<String, Value>,
    key: &str,
    value: String,
) -> Result<(), &'static str> {
    const BOTH: &str = "a key that has a value cannot have keys below it";
    if key.split('.').count() > STEPS_MAX {
        return Err("a key of more than 64 steps");
    }
    let (above, last) = match key.rsplit_once('.') {
        Some((above, last)) => (Some(above), last),
        None => (None, key),
    };
    let mut map = tree;
    for step in above.into_iter().flat_map(|above| above.split('.')) {
        let below = map.entry(step).or_insert_with(|| Value::Object(Map::new()));
        map = below.as_object_mut().ok_or(BOTH)?;
    }
    if map.get(last).is_some_and(Value::is_object) {
        return Err(BOTH);
    }
    map.insert(last.to_owned(), Value::String(value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_read_as_java_reads_them() {
        let text = "# comment\n ! comment\n\na=1\n b : two words \nc three\nd\ne\\ f\\=g = h\n\
                    long=one \\\n   two\npath=c:\\\\x\nu=\\u00e9\\t!\nface=\\ud83d\\ude00\nx.y=1\nx.z=2\na=again\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "a": "again", "b": "two words ", "c": "three", "d": "", "e f=g": "h", "long": "one two",
                "path": "c:\\x", "u": "é\t!", "face": "😀", "x": {"y": "1", "z": "2"}
            })
        );
    }

    #[test]
    fn a_key_is_a_value_or_a_map() {
        for text in ["a=1\na.b=2\n", "a.b=1\na=2\n"] {
            assert_eq!(parse(text).unwrap_err().0, 2, "{text}");
        }
        for text in ["a=\\u12", "a=\\ud83d", "a=\\ud83d\\u0041", "a=\\u+123"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

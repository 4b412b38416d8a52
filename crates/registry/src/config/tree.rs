//! A configuration as a tree: what is merged, looked into and compared.
//!
//! A path names its way in dots, `server.http.port`; numbers lead into lists. A key that has dots itself is found too, where no
//! shorter one stands in the way.

use serde_json::Value;

/// One difference between two trees.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Difference {
    /// Where.
    pub path: String,
    /// What stood there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What stands there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Lays `stronger` over `tree`: maps merge key by key, everything else replaces.
pub(crate) fn merge(tree: &mut Value, stronger: &Value) {
    match (tree, stronger) {
        (Value::Object(tree), Value::Object(stronger)) => {
            for (key, value) in stronger {
                match tree.get_mut(key) {
                    Some(weaker) => merge(weaker, value),
                    None => {
                        tree.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (tree, stronger) => *tree = stronger.clone(),
    }
}

/// What stands at a path; the empty one is the whole.
pub(crate) fn lookup<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(tree);
    }
    match tree {
        Value::Object(map) => {
            if let Some(value) = map.get(path) {
                return Some(value);
            }
            let (first, rest) = path.split_once('.')?;
            lookup(map.get(first)?, rest)
        }
        Value::Array(list) => {
            let (first, rest) = path.split_once('.').unwrap_or((path, ""));
            lookup(list.get(first.parse::<usize>().ok()?)?, rest)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// `path` with one step more.
pub(crate) fn join(path: &str, step: &str) -> String {
    if path.is_empty() {
        return step.to_owned();
    }
    format!("{path}.{step}")
}

/// What a value is, in the words of errors.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// Where two trees differ, in order of the paths. Lists are compared as wholes, as they are merged.
pub(crate) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(String::new(), Some(before), Some(after), &mut found);
    found
}

fn compare(
    path: String,
    before: Option<&Value>,
    after: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    if before == after {
        return;
    }
    let (Some(Value::Object(old)), Some(Value::Object(new))) = (before, after) else {
        return found.push(Difference {
            path,
            before: before.cloned(),
            after: after.cloned(),
        });
    };
    let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        compare(join(&path, key), old.get(key), new.get(key), found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_merge_and_lists_replace() {
        let mut tree = json!({"a": {"x": 1, "y": 2}, "l": [1, 2], "s": "weak", "m": {"k": 1}});
        let stronger = json!({"a": {"y": 3, "z": 4}, "l": [9], "s": {"now": "a map"}, "m": 5});
        merge(&mut tree, &stronger);
        assert_eq!(
            tree,
            json!({"a": {"x": 1, "y": 3, "z": 4}, "l": [9], "s": {"now": "a map"}, "m": 5})
        );
    }

    #[test]
    fn paths_lead_through_maps_and_lists() {
        let tree = json!({"a": {"b": [{"c": 1}, {"c": 2}]}, "motd.txt": "hello"});
        assert_eq!(lookup(&tree, "a.b.1.c"), Some(&json!(2)));
        assert_eq!(lookup(&tree, "motd.txt"), Some(&json!("hello")));
        assert_eq!(lookup(&tree, ""), Some(&tree));
        for missing in ["a.c", "a.b.2", "a.b.x", "a.b.0.c.d", "motd"] {
            assert_eq!(lookup(&tree, missing), None, "{missing}");
        }
    }

    #[test]
    fn differences_name_what_came_went_and_changed() {
        let before = json!({"same": 1, "gone": true, "deep": {"n": 1}});
        let after = json!({"same": 1, "came": [1], "deep": {"n": 2}});
        let found = differences(&before, &after);
        let paths: Vec<_> = found.iter().map(|difference| &*difference.path).collect();
        assert_eq!(paths, ["came", "deep.n", "gone"]);
        assert_eq!(found[1].before, Some(json!(1)));
        assert_eq!(found[2].after, None);
    }
}

use serde_json::json;

use super::*;

fn schema() -> Schema {
    let text = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["server"],
        "additionalProperties": false,
        "properties": {
            "server": {
                "type": "object",
                "required": ["port"],
                "properties": {
                    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                    "host": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]+$"},
                    "tags": {"type": "array", "maxItems": 2, "items": {"enum": ["a", "b", 3]}}
                },
                "additionalProperties": {"type": ["string", "null"]}
            },
            "ratio": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "fixed": {"const": true}
        }
    });
    Schema::parse(text.to_string().as_bytes()).unwrap()
}

fn broken(tree: &Value, strings: Strings) -> Vec<(String, &'static str)> {
    let violations = schema().check(tree, strings).into_iter();
    violations
        .map(|violation| (violation.path, violation.rule))
        .collect()
}

#[test]
fn what_keeps_to_the_schema_passes() {
    let trees = [
        json!({"server": {"port": 80}}),
        json!({"server": {"port": 80.0, "host": "abc", "tags": ["a", 3], "x": null}, "ratio": 0.5, "fixed": true}),
        json!({"server": {"port": "${base.port}", "host": "${h:UPPER}"}}),
    ];
    for tree in trees {
        assert_eq!(broken(&tree, Strings::AreStrings), [], "{tree}");
    }
    let strings = json!({"server": {"port": "80", "host": "abc"}, "ratio": "0.5", "fixed": "true"});
    assert_eq!(broken(&strings, Strings::MeanMore), []);
    assert!(!broken(&strings, Strings::AreStrings).is_empty());
}

#[test]
fn every_breach_is_named_by_path_and_rule() {
    let cases = [
        (json!({}), "server", "required"),
        (json!({"server": {}}), "server.port", "required"),
        (json!({"server": {"port": 80.5}}), "server.port", "type"),
        (json!({"server": {"port": 0}}), "server.port", "minimum"),
        (json!({"server": {"port": 65536}}), "server.port", "maximum"),
        (
            json!({"server": {"port": 1, "host": ""}}),
            "server.host",
            "minLength",
        ),
        (
            json!({"server": {"port": 1, "host": "abcdef"}}),
            "server.host",
            "maxLength",
        ),
        (
            json!({"server": {"port": 1, "host": "A"}}),
            "server.host",
            "pattern",
        ),
        (
            json!({"server": {"port": 1, "tags": ["a", "c"]}}),
            "server.tags.1",
            "enum",
        ),
        (
            json!({"server": {"port": 1, "tags": ["a", "a", "a"]}}),
            "server.tags",
            "maxItems",
        ),
        (json!({"server": {"port": 1, "x": 5}}), "server.x", "type"),
        (
            json!({"server": {"port": 1}, "hunter2": 5}),
            "hunter2",
            "additionalProperties",
        ),
        (
            json!({"server": {"port": 1}, "ratio": 0}),
            "ratio",
            "exclusiveMinimum",
        ),
        (
            json!({"server": {"port": 1}, "ratio": 1}),
            "ratio",
            "exclusiveMaximum",
        ),
        (
            json!({"server": {"port": 1}, "fixed": false}),
            "fixed",
            "const",
        ),
    ];
    for (tree, path, rule) in cases {
        let found = broken(&tree, Strings::AreStrings);
        assert!(
            found.contains(&(path.to_owned(), rule)),
            "{tree}: {found:?}"
        );
    }
}

#[test]
fn a_schema_with_what_is_not_looked_at_is_refused() {
    for text in [
        r#"{"oneOf": []}"#,
        r#"{"properties": {"a": {"$ref": "b"}}}"#,
        r#"{"type": "float"}"#,
        r#"{"pattern": "("}"#,
        r#"{"pattern": "(a{1000}){1000}"}"#,
        r#"{"minLength": -1}"#,
        r#"[]"#,
        "no json",
    ] {
        assert!(Schema::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_schema_cannot_have_patterns_without_number() {
    let pattern = json!({"pattern": "^[a-z]+$"});
    let many = |count: usize| {
        let properties: Map<_, _> = (0..count)
            .map(|n| (format!("k{n}"), pattern.clone()))
            .collect();
        let schema = json!({ "properties": properties }).to_string();
        Schema::parse(schema.as_bytes())
    };
    assert!(many(PATTERNS_MAX).is_ok());
    assert_eq!(
        many(PATTERNS_MAX + 1).unwrap_err().reason(),
        "CONFIG_TOO_LARGE"
    );
}

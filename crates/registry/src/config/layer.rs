//! Layers of documents, and what they come to.
//!
//! Every document keeps its own tree, and what holds is merged anew, weakest first, whenever one changes. So a later edit of a weak
//! layer never beats a strong one, and a key that goes from one layer shows what stands under it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    Error, Format, Result,
    seal::{self, Opener},
    tree,
};

/// Where a document stands among the others, weakest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// What the program itself brings.
    Defaults,
    /// The files, in the order in which they were named.
    File(u16),
    /// The store's documents for all of a namespace.
    Shared,
    /// The store's documents for the application.
    App,
    /// The store's documents for the application in this profile.
    Profile,
    /// Documents that some instances get before the others.
    Gray,
    /// Variables of the environment.
    Environment,
    /// The command line.
    Flags,
}

impl Layer {
    /// Whether documents of this layer come from the store.
    pub fn is_stored(self) -> bool {
        match self {
            Self::Shared | Self::App | Self::Profile | Self::Gray => true,
            Self::Defaults | Self::File(_) | Self::Environment | Self::Flags => false,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Defaults => "defaults",
            Self::File(_) => "file",
            Self::Shared => "shared",
            Self::App => "app",
            Self::Profile => "profile",
            Self::Gray => "gray",
            Self::Environment => "environment",
            Self::Flags => "flags",
        })
    }
}

/// Layer, then name: the order in which documents are merged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) layer: Layer,
    /// What tells the documents of a layer apart: a file's name, or `app/document`.
    pub(crate) name: Arc<str>,
}

/// A document as its source gave it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) place: Place,
    pub(crate) format: Format,
    pub(crate) bytes: Bytes,
    /// Grows by one with each publication; 0 outside of the store.
    pub(crate) version: u64,
    /// When it was published, in milliseconds since 1970; 0 if nobody says so.
    pub(crate) at_ms: u64,
}

impl Document {
    /// A document that a source makes of a tree.
    pub(crate) fn of_tree(layer: Layer, name: &str, tree: &Value) -> Self {
        Self {
            place: Place {
                layer,
                name: name.into(),
            },
            format: Format::Json,
            bytes: tree.to_string().into(),
            version: 0,
            at_ms: 0,
        }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("place", &self.place)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A document and its tree.
#[derive(Clone)]
pub(crate) struct Parsed {
    pub(crate) document: Arc<Document>,
    /// As it is written.
    pub(crate) tree: Arc<Value>,
    /// The same with what is sealed in it opened.
    opened: Arc<Value>,
}

impl Parsed {
    pub(crate) fn new(document: Arc<Document>, opener: &Opener) -> Result<Self> {
        // A text document's one key is its own name, without the application's or the directory's.
        let Place { layer, name } = &document.place;
        let own = name.rsplit_once('/').map_or(&**name, |(_, own)| own);
        let tree = Arc::new(document.format.parse(own, &document.bytes)?);
        let stored = layer.is_stored().then_some(&**name);
        let opened = opener.open(stored, &tree)?;
        Ok(Self {
            opened: opened.map_or_else(|| tree.clone(), Arc::new),
            tree,
            document,
        })
    }
}

/// Documents by place, all of them readable.
#[derive(Clone, Default)]
pub(crate) struct Documents(pub(crate) BTreeMap<Place, Parsed>);

impl Documents {
    /// What all of them come to.
    pub(crate) fn merged(&self) -> Value {
        let mut merged = Value::Object(Map::new());
        for parsed in self.0.values() {
            tree::merge(&mut merged, &parsed.opened);
        }
        merged
    }

    /// What each document says at a path, weakest first; what is sealed is masked.
    pub(crate) fn explain(&self, path: &str) -> Vec<LayerValue> {
        let said = self.0.values().filter_map(|parsed| {
            let value = tree::lookup(&parsed.tree, path)?;
            Some(LayerValue {
                layer: parsed.document.place.layer,
                document: parsed.document.place.name.to_string(),
                version: parsed.document.version,
                value: seal::masked(value),
            })
        });
        said.collect()
    }
}

/// What one document says at a path, its placeholders unresolved and what is sealed masked. `Debug` leaves the value out.
#[derive(Clone, PartialEq, serde::Serialize)]
pub struct LayerValue {
    /// The layer.
    pub layer: Layer,
    /// The document: a file's name, a document of the store, a kind of source.
    pub document: String,
    /// The document's version; 0 outside of the store.
    pub version: u64,
    /// The value, which is for the eyes of who asked and for no log.
    pub value: Value,
}

impl fmt::Debug for LayerValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerValue")
            .field("layer", &self.layer)
            .field("document", &self.document)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A tree of key-value pairs whose keys are steps already: what environment and flags come to. Where two say that one key is both a
/// value and a map, the later is refused.
pub(crate) fn tree_of_pairs<'a>(
    what: &'static str,
    pairs: impl IntoIterator<Item = (String, &'a str)>,
) -> Result<Value> {
    let mut map = Map::new();
    for (key, value) in pairs {
        super::properties::insert(&mut map, &key, value.to_owned()).map_err(|reason| {
            Error::Unreadable {
                document: format!("{what} {key}"),
                line: 0,
                column: 0,
                reason,
            }
        })?;
    }
    Ok(Value::Object(structured(map)))
}

/// Strings that are a list or a map of JSON become one: nothing else can be given in a variable.
fn structured(map: Map<String, Value>) -> Map<String, Value> {
    let entries = map.into_iter().map(|(key, value)| match value {
        Value::Object(map) => (key, Value::Object(structured(map))),
        Value::String(text) if text.starts_with(['[', '{']) => {
            let parsed = serde_json::from_str(&text);
            (key, parsed.unwrap_or(Value::String(text)))
        }
        other => (key, other),
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn document(layer: Layer, name: &str, tree: &Value) -> Parsed {
        let document = Arc::new(Document::of_tree(layer, name, tree));
        Parsed::new(document, &Opener::default()).unwrap()
    }

    fn documents(of: Vec<Parsed>) -> Documents {
        let by_place = of
            .into_iter()
            .map(|parsed| (parsed.document.place.clone(), parsed));
        Documents(by_place.collect())
    }

    const LAYERS: [Layer; 9] = [
        Layer::Defaults,
        Layer::File(0),
        Layer::File(1),
        Layer::Shared,
        Layer::App,
        Layer::Profile,
        Layer::Gray,
        Layer::Environment,
        Layer::Flags,
    ];

    #[test]
    fn each_layer_beats_those_before_it() {
        for (n, stronger) in LAYERS.iter().enumerate() {
            for weaker in &LAYERS[..n] {
                // The stronger is put in first: order of arrival says nothing.
                let both = documents(vec![
                    document(*stronger, "a", &json!({"k": "strong", "s": 1})),
                    document(*weaker, "z", &json!({"k": "weak", "w": 1})),
                ]);
                assert_eq!(both.merged(), json!({"k": "strong", "s": 1, "w": 1}));
            }
        }
    }

    #[test]
    fn explain_goes_from_the_weakest_to_what_holds() {
        let all = documents(vec![
            document(Layer::Flags, "flags", &json!({"a": {"b": 3}})),
            document(Layer::Defaults, "defaults", &json!({"a": {"b": 1, "c": 1}})),
            document(Layer::App, "user/main", &json!({"a": {"b": 2}})),
        ]);
        let said = all.explain("a.b");
        let values: Vec<_> = said
            .iter()
            .map(|said| (said.layer, said.value.clone()))
            .collect();
        assert_eq!(
            values,
            [
                (Layer::Defaults, json!(1)),
                (Layer::App, json!(2)),
                (Layer::Flags, json!(3))
            ]
        );
        assert!(!format!("{said:?}").contains("value"));
    }

    #[test]
    fn pairs_become_a_tree() {
        let pairs = [
            ("server.port", "8080"),
            ("server.hosts", "[\"a\"]"),
            ("odd", "[not json"),
        ];
        let tree =
            tree_of_pairs("flag", pairs.map(|(key, value)| (key.to_owned(), value))).unwrap();
        assert_eq!(
            tree,
            json!({"server": {"port": "8080", "hosts": ["a"]}, "odd": "[not json"})
        );
        let both = [("a", "hunter2"), ("a.b", "hunter2")];
        let error = tree_of_pairs("flag", both.map(|(key, value)| (key.to_owned(), value)));
        assert!(!error.unwrap_err().to_string().contains("hunter2"));
    }

    /// The plainest way to say what a merge is: a leaf holds what the strongest layer that says anything on its way says.
    fn leaf(layers: &[Value], path: &str) -> Option<Value> {
        let mut merged = None;
        for tree in layers {
            if let Some(value) = tree::lookup(tree, path) {
                match value {
                    Value::Object(_) if matches!(merged, Some(Value::Object(_))) => {}
                    Value::Object(_) => merged = Some(json!({})),
                    value => merged = Some(value.clone()),
                }
                continue;
            }
            // Something that is no map on the way hides what is below it.
            let mut way = path;
            while let Some((above, _)) = way.rsplit_once('.') {
                if tree::lookup(tree, above).is_some_and(|value| !value.is_object()) {
                    merged = None;
                }
                way = above;
            }
        }
        merged
    }

    fn tree() -> impl Strategy<Value = Value> {
        let value = prop_oneof![
            (0..9_u8).prop_map(|n| json!(n)),
            prop::collection::vec(0..9_u8, 0..3).prop_map(|list| json!(list)),
        ];
        let nested = value.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[abc]", inner, 0..4).prop_map(|map| json!(map))
        });
        prop::collection::btree_map("[abc]", nested, 0..4).prop_map(|map| json!(map))
    }

    proptest! {
        #[test]
        fn merge_is_in_order_of_the_layers_whatever_came_when(
            trees in prop::collection::vec(tree(), LAYERS.len()),
            order in Just((0..LAYERS.len()).collect::<Vec<_>>()).prop_shuffle(),
            edits in prop::collection::vec((0..LAYERS.len(), tree()), 0..6),
        ) {
            let mut current = trees.clone();
            let mut held = Documents::default();
            let put = |held: &mut Documents, n: usize, tree: &Value| {
                let parsed = document(LAYERS[n], "d", tree);
                held.0.insert(parsed.document.place.clone(), parsed);
            };
            for n in order {
                put(&mut held, n, &trees[n]);
            }
            for (n, tree) in edits {
                put(&mut held, n, &tree);
                current[n] = tree;
            }
            let merged = held.merged();
            let mut expected = json!({});
            for tree in &current {
                tree::merge(&mut expected, tree);
            }
            prop_assert_eq!(&merged, &expected);
            for path in ["a", "b", "c", "a.a", "a.b", "b.c", "a.b.c", "c.c.c"] {
                let found = tree::lookup(&merged, path).cloned();
                let expected = leaf(&current, path);
                match (&found, &expected) {
                    (Some(Value::Object(_)), Some(Value::Object(_))) => {}
                    _ => prop_assert_eq!(found, expected, "{}", path),
                }
            }
        }
    }
}

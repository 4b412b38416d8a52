//! Secrets in documents: sealed where they stand, opened only in what a process is configured to do.
//!
//! ```text
//! enc:v1:{key id}:{base64(nonce, ciphertext, tag)}
//! ```
//!
//! AES-256-GCM under a nonce that is drawn for each. The associated data is `{ns}/{app}/{doc}/{path}`: an envelope opens only where it
//! was made for, so who may write documents and has no key gains nothing by moving one to a place that is shown.
//!
//! - An envelope is a whole string. What is in it is a string too, which stands for a number where one is asked for, as every string
//!   does, and in which `${` means nothing.
//! - Documents, history, gray rules and last good copies hold envelopes. What is opened stands in the tree that holds in the process,
//!   and leaves it through [`Config::get`](super::Config::get) and [`Watched`](super::Watched) only. Where values are shown, an
//!   envelope is `enc:v1:{key id}:***`.
//! - Publishing needs no key: that an envelope is whole is checked, and schemas say nothing of what is in it.
//!
//! Drawn nonces bear 2^32 envelopes under one key, far more than anybody seals.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::Value;

use super::{DocumentName, Error, Result, center::at_most, key, meta::sha256, tree};

/// What all envelopes begin with, whatever their form.
const ENVELOPE: &str = "enc:v";

/// The one form that is known here.
const FORM: &str = "enc:v1:";

/// What stands for the secret where an envelope is shown.
const MASK: &str = "***";

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Bytes of the tag behind the ciphertext.
const TAG_BYTES: usize = 16;

/// The longest secret: room for a chain of certificates and its key.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Keys of one process: those of today and yesterday, and of each application.
const KEYS_MAX: usize = 64;

/// How much of a digest tells keys apart.
const FINGERPRINT_CHARS: usize = 8;

/// Why a sealed value does not open. No text says anything of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// The key is not there.
    #[error("is sealed with the key {id:?}, which this process does not have{}", Listed(.known))]
    NoKey {
        /// The key that is named.
        id: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// A key of that name is there, and is not the one, or what it is to open is not what it sealed.
    #[error(
        "does not open with the key {id:?}: it was sealed with another key of that name or for another place, or it was damaged since"
    )]
    DoesNotOpen {
        /// The key.
        id: String,
    },
    /// It is not even an envelope.
    #[error("is no whole sealed value: it was damaged or cut off")]
    Damaged,
    /// It is an envelope of another release.
    #[error("is sealed in a form that this release does not know")]
    OtherForm,
    /// There is no key at all.
    #[error("cannot be sealed: there is no key")]
    NothingToSealWith,
    /// It stands outside of the store.
    #[error("is sealed, which only values in documents of the store can be")]
    Elsewhere,
}

/// Ids behind a semicolon.
struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str(": it has none"),
            ids => write!(f, ": it has {}", ids.join(", ")),
        }
    }
}

/// Keys by their ids: all of them open, the first one seals. `Debug` shows the ids.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Arc<BTreeMap<String, LessSafeKey>>,
    /// The id of the one that seals.
    first: Option<String>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl Keyring {
    /// Reads keys from a text: words of the form `{id}:{base64 of 32 bytes}`, or without an id, which is then the beginning of the
    /// key's digest. What follows a `#` in a line is a comment.
    pub fn parse(text: &str) -> Result<Self> {
        let (mut keys, mut first) = (BTreeMap::new(), None);
        for (index, line) in text.lines().enumerate() {
            let fault = |reason| Error::Unreadable {
                document: "keys".to_owned(),
                line: index + 1,
                column: 1,
                reason,
            };
            let line = line.split('#').next().unwrap_or_default();
            for word in line.split_whitespace() {
                let (id, secret) = match word.split_once(':') {
                    Some((id, secret)) => (Some(id), secret),
                    None => (None, word),
                };
                let bytes = BASE64_STANDARD.decode(secret).ok();
                let bytes = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
                let bytes = bytes.ok_or_else(|| fault("a key is 32 bytes in base64"))?;
                let id = id.map_or_else(|| fingerprint(&bytes), str::to_owned);
                key::check("key", &id).map_err(|_name| {
                    fault("the id of a key is 1 to 128 of a-z, 0-9, '-', '.' and '_'")
                })?;
                first.get_or_insert_with(|| id.clone());
                if keys.insert(id, key_of(&bytes)).is_some() {
                    return Err(fault("another key before it has the same id"));
                }
                at_most("keys", keys.len(), KEYS_MAX)?;
            }
        }
        Ok(Self {
            keys: Arc::new(keys),
            first,
        })
    }

    /// A new key, as [`parse`](Self::parse) reads it. Its id is the beginning of its digest, so that another key does not go by its
    /// name.
    pub fn draw() -> String {
        let bytes: [u8; KEY_BYTES] = rand::random();
        format!("{}:{}", fingerprint(&bytes), BASE64_STANDARD.encode(bytes))
    }

    /// The ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Seals a secret for one place of one document. The path is that of [`Config::get`](super::Config::get); of a document that is
    /// text, the document's own name.
    pub fn seal(&self, name: &DocumentName, path: &str, secret: &str) -> Result<String> {
        let found = self.first.as_ref();
        let found = found.and_then(|id| Some((id, self.keys.get(id)?)));
        let (id, key) = found.ok_or_else(|| Error::Sealed {
            path: path.to_owned(),
            fault: SealFault::NothingToSealWith,
        })?;
        at_most("bytes of a secret", secret.len(), SECRET_BYTES_MAX)?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = secret.as_bytes().to_vec();
        let aad = Aad::from(format!("{name}/{path}"));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("one nonce bears 64 GiB");
        let content = BASE64_STANDARD.encode([&nonce[..], &sealed].concat());
        Ok(format!("{FORM}{id}:{content}"))
    }

    fn open(&self, envelope: &Envelope<'_>, place: String) -> Result<String, SealFault> {
        let id = envelope.id.to_owned();
        let Some(key) = self.keys.get(&id) else {
            let known = self.keys.keys().cloned().collect();
            return Err(SealFault::NoKey { id, known });
        };
        let (nonce, sealed) = envelope.content.split_at(NONCE_LEN);
        let opened = Nonce::try_assume_unique_for_key(nonce).and_then(|nonce| {
            let mut sealed = sealed.to_vec();
            let opened = key.open_in_place(nonce, Aad::from(place), &mut sealed)?;
            Ok(String::from_utf8(opened.to_vec()))
        });
        // What was sealed is text.
        match opened {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(_)) | Err(_) => Err(SealFault::DoesNotOpen { id }),
        }
    }
}

fn key_of(bytes: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, bytes);
    LessSafeKey::new(key.expect("AES-256 has keys of this length"))
}

fn fingerprint(key: &[u8]) -> String {
    let mut digest = sha256(&[b"configuration key ", key].concat());
    digest.truncate(FINGERPRINT_CHARS);
    digest
}

/// A sealed value, read but not opened.
struct Envelope<'a> {
    id: &'a str,
    /// Nonce, ciphertext, tag.
    content: Vec<u8>,
}

impl<'a> Envelope<'a> {
    /// Reads a string; nothing if it is not sealed.
    fn read(text: &'a str) -> Option<Result<Self, SealFault>> {
        is_sealed(text).then(|| Self::read_sealed(text.trim()))
    }

    fn read_sealed(text: &'a str) -> Result<Self, SealFault> {
        let Some(rest) = text.strip_prefix(FORM) else {
            return Err(SealFault::OtherForm);
        };
        let (id, content) = rest.split_once(':').ok_or(SealFault::Damaged)?;
        key::check("key", id).map_err(|_name| SealFault::Damaged)?;
        let content = BASE64_STANDARD.decode(content).ok();
        let content = content.filter(|content| content.len() >= NONCE_LEN + TAG_BYTES);
        let content = content.ok_or(SealFault::Damaged)?;
        Ok(Self { id, content })
    }
}

/// Whether a string is a sealed value, be it whole or not.
pub(crate) fn is_sealed(text: &str) -> bool {
    let rest = text.trim_start().strip_prefix(ENVELOPE);
    rest.is_some_and(|rest| {
        let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        behind.len() < rest.len() && behind.starts_with(':')
    })
}

/// Opens what is sealed in documents.
#[derive(Clone, Default)]
pub(crate) struct Opener {
    pub(crate) keys: Keyring,
    /// The namespace of the store's documents.
    pub(crate) ns: String,
}

impl Opener {
    /// A tree with what is sealed in it opened, and whatever stands in that escaped, so that resolving leaves it as it is; nothing if
    /// nothing is sealed. A document's name is `{app}/{doc}` if it is the store's.
    pub(crate) fn open(&self, document: Option<&str>, tree: &Value) -> Result<Option<Value>> {
        if !any_sealed(tree) {
            return Ok(None);
        }
        let open = |path: &str, envelope: &Envelope<'_>| {
            let document = document.ok_or(SealFault::Elsewhere)?;
            let place = format!("{}/{document}/{path}", self.ns);
            let opened = self.keys.open(envelope, place)?;
            Ok(Value::String(opened.replace("${", "$${")))
        };
        replace("", tree, &open).map(Some)
    }
}

/// Whether what is sealed in a tree is whole, as far as that shows without a key.
pub(crate) fn check(tree: &Value) -> Result<()> {
    replace("", tree, &|_, _| Ok(Value::Null)).map(drop)
}

/// A tree as it may be shown.
pub(crate) fn masked(tree: &Value) -> Value {
    match tree {
        Value::String(text) if is_sealed(text) => {
            let id = match Envelope::read(text) {
                Some(Ok(envelope)) => format!("{FORM}{}:{MASK}", envelope.id),
                Some(Err(_)) | None => format!("{FORM}{MASK}"),
            };
            Value::String(id)
        }
        Value::Array(list) => list.iter().map(masked).collect(),
        Value::Object(map) => {
            let masked = map.iter().map(|(key, value)| (key.clone(), masked(value)));
            Value::Object(masked.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => tree.clone(),
    }
}

fn any_sealed(tree: &Value) -> bool {
    match tree {
        Value::String(text) => is_sealed(text),
        Value::Array(list) => list.iter().any(any_sealed),
        Value::Object(map) => map.values().any(any_sealed),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A tree with something else in the place of each envelope.
fn replace(
    path: &str,
    tree: &Value,
    by: &impl Fn(&str, &Envelope<'_>) -> Result<Value, SealFault>,
) -> Result<Value> {
    Ok(match tree {
        Value::String(text) => match Envelope::read(text) {
            None => tree.clone(),
            Some(envelope) => {
                let replaced = envelope.and_then(|envelope| by(path, &envelope));
                replaced.map_err(|fault| Error::Sealed {
                    path: path.to_owned(),
                    fault,
                })?
            }
        },
        Value::Array(list) => {
            let items = list.iter().enumerate();
            let items = items.map(|(n, item)| replace(&tree::join(path, &n.to_string()), item, by));
            Value::Array(items.collect::<Result<_>>()?)
        }
        Value::Object(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| Ok((key.clone(), replace(&tree::join(path, key), value, by)?)));
            Value::Object(entries.collect::<Result<_>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => tree.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys() -> Keyring {
        Keyring::parse(&Keyring::draw()).unwrap()
    }

    fn name() -> DocumentName {
        DocumentName::new("prod", "user", "main.toml").unwrap()
    }

    fn opener(keys: &Keyring) -> Opener {
        Opener {
            keys: keys.clone(),
            ns: "prod".to_owned(),
        }
    }

    fn fault(opened: Result<Option<Value>>) -> SealFault {
        match opened {
            Err(Error::Sealed { path, fault }) => {
                assert_eq!(path, "db.password");
                fault
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_sealed_opens_where_it_was_sealed_for_and_nowhere_else() {
        let keys = keys();
        let secret = "hunter2 ${db.user} $${x} ü";
        let sealed = keys.seal(&name(), "db.password", secret).unwrap();
        assert!(!sealed.contains("hunter2"));
        let tree = json!({"db": {"password": sealed, "user": "${x}", "port": 1}, "list": ["a"]});
        let opened = opener(&keys).open(Some("user/main.toml"), &tree).unwrap();
        let opened = opened.unwrap();
        assert_eq!(opened["db"]["user"], "${x}");
        assert_eq!(opened["db"]["port"], 1);
        // Resolving leaves what was sealed as it was.
        let resolved = crate::config::resolve::resolve(&json!({
            "x": "a", "db": opened["db"].clone()
        }));
        let resolved = resolved.unwrap();
        assert_eq!(resolved["db"]["password"], secret);
        assert_eq!(resolved["db"]["user"], "a");

        let elsewhere = SealFault::DoesNotOpen {
            id: keys.ids().next().unwrap().to_owned(),
        };
        let opened = |ns: &str, document: &str| {
            let opener = Opener {
                ns: ns.to_owned(),
                ..opener(&keys)
            };
            fault(opener.open(Some(document), &tree))
        };
        assert_eq!(opened("test", "user/main.toml"), elsewhere);
        assert_eq!(opened("prod", "gateway/main.toml"), elsewhere);
        assert_eq!(opened("prod", "user/other.toml"), elsewhere);
        let moved = json!({"motd": sealed});
        let error = opener(&keys).open(Some("user/main.toml"), &moved);
        assert!(
            matches!(error, Err(Error::Sealed { ref path, .. }) if path == "motd"),
            "{error:?}"
        );
        assert_eq!(fault(opener(&keys).open(None, &tree)), SealFault::Elsewhere);
    }

    #[test]
    fn two_envelopes_of_one_secret_are_different() {
        let keys = keys();
        let seal = || keys.seal(&name(), "a", "hunter2").unwrap();
        assert_ne!(seal(), seal());
        let empty = keys.seal(&name(), "a", "").unwrap();
        let opened = opener(&keys).open(Some("user/main.toml"), &json!({"a": empty}));
        assert_eq!(opened.unwrap(), Some(json!({"a": ""})));
        let long = "x".repeat(SECRET_BYTES_MAX + 1);
        let error = keys.seal(&name(), "a", &long).unwrap_err();
        assert_eq!(error.reason(), "CONFIG_TOO_LARGE");
        let error = Keyring::default().seal(&name(), "a", "b").unwrap_err();
        assert_eq!(error.to_string(), "a cannot be sealed: there is no key");
    }

    #[test]
    fn every_fault_is_told_apart_and_quotes_nothing() {
        let (ours, theirs) = (keys(), keys());
        let sealed = ours.seal(&name(), "db.password", "hunter2").unwrap();
        let open = |keys: &Keyring, text: &str| {
            let tree = json!({"db": {"password": text}});
            let opened = opener(keys).open(Some("user/main.toml"), &tree);
            let told = opened.as_ref().unwrap_err().to_string();
            assert!(
                told.starts_with("db.password ") && !told.contains("hunter2"),
                "{told}"
            );
            fault(opened)
        };
        let id = ours.ids().next().unwrap().to_owned();
        // Another key has another id, unless somebody gives it the same.
        let known = theirs.ids().map(str::to_owned).collect();
        let no_key = SealFault::NoKey {
            id: id.clone(),
            known,
        };
        assert_eq!(open(&theirs, &sealed), no_key);
        let known = Vec::new();
        let none = SealFault::NoKey {
            id: id.clone(),
            known,
        };
        assert_eq!(open(&Keyring::default(), &sealed), none);
        let drawn = Keyring::draw();
        let other = drawn.split_once(':').unwrap().1;
        let impostor = Keyring::parse(&format!("{id}:{other}")).unwrap();
        let does_not_open = SealFault::DoesNotOpen { id: id.clone() };
        assert_eq!(open(&impostor, &sealed), does_not_open);
        assert_eq!(open(&ours, "enc:v2:a:AAAA"), SealFault::OtherForm);
        // Cut off anywhere, it never opens, and where base64 ends in the middle of a group it is not even an envelope.
        let head = FORM.len();
        let mut damaged = 0;
        for end in head..sealed.len() {
            match open(&ours, &sealed[..end]) {
                SealFault::Damaged => damaged += 1,
                SealFault::DoesNotOpen { .. } => {}
                other => panic!("{end}: {other:?}"),
            }
        }
        assert!(damaged > 0);
        // Nor with a bit of any byte turned.
        let content = BASE64_STANDARD
            .decode(&sealed[head + id.len() + 1..])
            .unwrap();
        for at in 0..content.len() {
            let mut content = content.clone();
            content[at] ^= 1;
            let turned = format!("{FORM}{id}:{}", BASE64_STANDARD.encode(content));
            assert_eq!(open(&ours, &turned), does_not_open, "{at}");
        }
    }

    #[test]
    fn keys_are_read_from_a_text() {
        let (one, two) = (Keyring::draw(), Keyring::draw());
        let keys = Keyring::parse(&format!(
            "# of today\n{one}\n\n  new:{} # more\n",
            bare(&two)
        ));
        let keys = keys.unwrap();
        let id = one.split_once(':').unwrap().0;
        assert_eq!(keys.first.as_deref(), Some(id));
        assert_eq!(keys.ids().count(), 2);
        assert_eq!(
            Keyring::parse(bare(&one)).unwrap().first.as_deref(),
            Some(id)
        );
        assert_eq!(Keyring::parse(" \n").unwrap().ids().count(), 0);
        // The first one seals, all of them open.
        let sealed = keys.seal(&name(), "a", "b").unwrap();
        assert!(sealed.starts_with(&format!("{FORM}{id}:")));
        let later = Keyring::parse(&format!("{two}\n{one}")).unwrap();
        let opened = opener(&later).open(Some("user/main.toml"), &json!({"a": sealed}));
        assert_eq!(opened.unwrap(), Some(json!({"a": "b"})));
        for (text, words) in [
            ("hunter2".to_owned(), "32 bytes"),
            (format!("\nA b:{}", bare(&one)), "line 2"),
            (format!("Up:{}", bare(&one)), "the id of a key"),
            (format!("{one} {one}"), "the same id"),
        ] {
            let error = Keyring::parse(&text).unwrap_err().to_string();
            assert!(
                error.contains(words) && !error.contains("hunter2"),
                "{error}"
            );
        }
        assert!(!format!("{keys:?}").contains(bare(&one)));
    }

    fn bare(key: &str) -> &str {
        key.split_once(':').unwrap().1
    }

    #[test]
    fn what_is_sealed_is_masked_wherever_it_stands() {
        let keys = keys();
        let id = keys.ids().next().unwrap();
        let sealed = keys.seal(&name(), "a", "b").unwrap();
        let tree = json!({
            "a": format!(" {sealed}\n"), "list": [{"b": sealed}], "broken": "enc:v1:?",
            "other": "enc:v9:x", "plain": "enc:variable", "n": 1
        });
        let mask = format!("{FORM}{id}:***");
        let expected = json!({
            "a": mask, "list": [{"b": mask}], "broken": "enc:v1:***", "other": "enc:v1:***",
            "plain": "enc:variable", "n": 1
        });
        assert_eq!(masked(&tree), expected);
        assert!(check(&json!({"a": sealed, "plain": "enc:variable"})).is_ok());
        let error = check(&json!({"a": [sealed, "enc:v1:x:AA=="]})).unwrap_err();
        assert_eq!(error.reason(), "CONFIG_SEALED");
        assert!(
            error
                .to_string()
                .starts_with("a.1 is no whole sealed value")
        );
    }
}

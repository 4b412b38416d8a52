//! Listeners: a client says what it has of some documents, and is answered when one of them is another.
//!
//! ```text
//!   request   Listening-Configs = (dataId ␂ group ␂ md5 [␂ tenant] ␁)*      ␂ and ␁ are the characters 2 and 1
//!   answer    (dataId ␂ group [␂ tenant] ␁)*, encoded as in a URL; empty if nothing changed in time
//! ```

use std::{collections::BTreeMap, time::Duration};

use axum::{extract::State, response::IntoResponse, response::Response};
use catena_middleware::{
    error::{Error, reasons},
    validate::Violation,
};
use catena_registry::config::{DocumentName, center::Watch};
use futures_util::future::select_all;
use http::HeaderMap;
use tokio::time::timeout;

use super::{
    Nacos,
    config::{content, md5},
    request::Params,
};
use crate::config_api::fault::Result;

const WORD: char = '\u{2}';
const LINE: char = '\u{1}';

/// The most that clients of Nacos ask for at once.
const LISTENED_MAX: usize = 3000;

/// How long a client waits that does not say; the longest that one may.
const WAIT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A document that a client listens to.
struct Listened {
    name: DocumentName,
    /// Of what the client has; empty if it has none.
    md5: String,
    /// As the client names it, which is how it is told.
    told: String,
}

pub(super) async fn listen(
    State(nacos): State<Nacos>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response> {
    let text = params.required("Listening-Configs")?;
    let listened = parse(&nacos, &text)?;
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    let wait = number("long-pulling-timeout").map_or(WAIT, Duration::from_millis);
    if headers.contains_key("long-pulling-timeout-no-hangup") {
        return Ok(encoded(&changed(&nacos, &listened).await?).into_response());
    }
    let _place = nacos
        .waiting
        .try_acquire()
        .map_err(|_full| Error::of(&reasons::OVERLOADED))?;
    let told = tokio::select! {
        told = timeout(wait.min(WAIT_MAX), until_changed(&nacos, &listened)) => told.ok().transpose()?,
        () = nacos.closing.cancelled() => None,
    };
    Ok(encoded(&told.unwrap_or_default()).into_response())
}

fn parse(nacos: &Nacos, text: &str) -> Result<Vec<Listened>> {
    let malformed = |rule: &'static str, message: &'static str| {
        Error::invalid(vec![Violation::new("Listening-Configs", rule, message)])
    };
    let mut all = Vec::new();
    for line in text.split(LINE).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split(WORD).collect();
        let (doc, group, md5, tenant) = match words[..] {
            [doc, group, md5] => (doc, group, md5, ""),
            [doc, group, md5, tenant] => (doc, group, md5, tenant),
            _ => return Err(malformed("words", "a line has three or four words").into()),
        };
        let told = match tenant {
            "" => format!("{doc}{WORD}{group}{LINE}"),
            tenant => format!("{doc}{WORD}{group}{WORD}{tenant}{LINE}"),
        };
        all.push(Listened {
            name: nacos.document(doc, group, tenant)?,
            md5: md5.to_owned(),
            told,
        });
        if all.len() > LISTENED_MAX {
            return Err(malformed("max", "no more than 3000 documents at once").into());
        }
    }
    Ok(all)
}

/// Those that are not what the client has.
async fn changed(nacos: &Nacos, listened: &[Listened]) -> Result<String> {
    let mut told = String::new();
    for one in listened {
        let content = content(nacos, &one.name).await?;
        let now = content.map(|content| md5(&content)).unwrap_or_default();
        if now != one.md5 {
            told.push_str(&one.told);
        }
    }
    Ok(told)
}

/// The same, once there is one.
async fn until_changed(nacos: &Nacos, listened: &[Listened]) -> Result<String> {
    loop {
        // Followed first and read then, so that nothing falls between.
        let mut watches = BTreeMap::new();
        for one in listened {
            let app = one.name.app();
            let place = (app.ns().to_owned(), app.app().to_owned());
            if let std::collections::btree_map::Entry::Vacant(vacant) = watches.entry(place) {
                vacant.insert(nacos.center.watch_app(app, 0).await?);
            }
        }
        let mut watches: Vec<_> = watches.into_values().collect();
        loop {
            let told = changed(nacos, listened).await?;
            if !told.is_empty() {
                return Ok(told);
            }
            if watches.is_empty() {
                // Nobody is listened to: the time passes.
                std::future::pending::<()>().await;
            }
            let next = watches.iter_mut().map(Watch::next).map(Box::pin);
            let (event, ..) = select_all(next).await;
            if let Err(error) = event {
                tracing::debug!(%error, "a listener's wait begins anew");
                break;
            }
        }
    }
}

/// As forms and URLs have it.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_as_clients_read_it() {
        let told = format!("a.toml{WORD}DEFAULT_GROUP{WORD}é{LINE}");
        assert_eq!(encoded(&told), "a.toml%02DEFAULT_GROUP%02%C3%A9%01");
    }
}

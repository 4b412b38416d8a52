//! What is known of one service: a pure table of the keys in its areas.
//!
//! Two things change it. An event of a live watch is obeyed, whatever it says. A reading of the store replaces everything, with one
//! exception: if the store has *lost* what it knew, because it was restored or wiped, instances that it lacks are kept for a time,
//! for they are most likely alive and about to register again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use catena_client::pb::{Event, EventType, KeyValueView};
use tokio::time::Instant;

use super::merge::{Candidate, merge};
use crate::{
    Instance, Override, ServiceName, ServiceSettings,
    layout::{self, Area, Entry},
};

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    service: ServiceName,
    prefixes: BTreeMap<Area, String>,
    keep_last: Duration,
    rows: BTreeMap<Place, Row>,
    /// The instances as they were last given out, so that one that did not change stays the same.
    given: Arc<[Arc<Instance>]>,
    settings: Arc<ServiceSettings>,
}

/// An area, and the key behind its prefix.
type Place = (Area, Bytes);

#[derive(Debug)]
struct Row {
    content: Content,
    revision: i64,
    /// Until when the row stays although the store lacks it.
    kept_until: Option<Instant>,
}

#[derive(Debug)]
enum Content {
    Entry(Box<Entry>),
    Override(Override),
    Settings(Box<ServiceSettings>),
    Unreadable,
}

/// Where a reading comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    /// The store that was read before.
    Same,
    /// One that lost what the other knew.
    Lost,
}

impl Table {
    pub(super) fn new(namespace: &str, service: ServiceName, keep_last: Duration) -> Self {
        let prefix = |area: Area| (area, area.prefix(namespace, &service));
        Self {
            prefixes: Area::ALL.into_iter().map(prefix).collect(),
            service,
            keep_last,
            rows: BTreeMap::new(),
            given: Arc::new([]),
            settings: Arc::default(),
        }
    }

    /// The prefix of an area; of [`Area::Settings`] its one key.
    pub(super) fn prefix(&self, area: Area) -> &str {
        self.prefixes.get(&area).map_or("", String::as_str)
    }

    /// Takes a reading of everything.
    pub(super) fn load(
        &mut self,
        reading: Vec<(Area, Vec<KeyValueView>)>,
        history: History,
        now: Instant,
    ) {
        let before = std::mem::take(&mut self.rows);
        for (area, kvs) in reading {
            for kv in kvs {
                self.put(area, kv);
            }
        }
        for (key, mut row) in before {
            let kept_until = match history {
                History::Lost => row.kept_until.or(Some(now + self.keep_last)),
                History::Same => row.kept_until,
            };
            if kept_until.is_some() && row.is_worth_keeping() {
                row.kept_until = kept_until;
                self.rows.entry(key).or_insert(row);
            }
        }
    }

    /// Fills an empty table with what was known last time, before the store has been read.
    pub(super) fn remember(&mut self, instances: Vec<Instance>, settings: ServiceSettings) {
        self.given = instances.into_iter().map(Arc::new).collect();
        self.settings = Arc::new(settings);
    }

    /// Obeys an event.
    pub(super) fn apply(&mut self, area: Area, event: &Event) {
        let Some(kv) = event.kv() else { return };
        let kv = kv.view();
        match event.kind() {
            EventType::Put => self.put(area, kv),
            EventType::Delete => {
                if let Some(place) = self.place(area, &kv.key) {
                    self.rows.remove(&place);
                }
            }
        }
    }

    /// Forgets what was kept long enough; tells whether there was any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.rows.len();
        self.rows
            .retain(|_, row| row.kept_until.is_none_or(|until| until > now));
        self.rows.len() != before
    }

    /// When something is to be forgotten next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.rows.values().filter_map(|row| row.kept_until).min()
    }

    /// Whether some of the instances are kept although the store lacks them.
    pub(super) fn is_keeping(&self) -> bool {
        let kept = |row: &Row| row.kept_until.is_some() && matches!(row.content, Content::Entry(_));
        self.rows.values().any(kept)
    }

    /// Values that no layout can read.
    pub(super) fn skipped(&self) -> usize {
        let unreadable = |row: &&Row| matches!(row.content, Content::Unreadable);
        self.rows.values().filter(unreadable).count()
    }

    /// Whether the store held exactly these keys of an area, with these revisions.
    pub(super) fn agrees(&self, area: Area, kvs: &[KeyValueView]) -> bool {
        let of_area = self.rows.iter().filter(|((of, _), _)| *of == area);
        let live = of_area.filter(|(_, row)| row.kept_until.is_none()).count();
        let known = |kv: &KeyValueView| {
            let place = self.place(area, &kv.key);
            let row = place.and_then(|place| self.rows.get(&place));
            row.is_some_and(|row| row.kept_until.is_none() && row.revision == kv.mod_revision)
        };
        live == kvs.len() && kvs.iter().all(known)
    }

    /// The instances, by id. One that did not change is the same `Arc` as last time, and if none did, all are the same slice.
    pub(super) fn instances(&mut self) -> Arc<[Arc<Instance>]> {
        let candidates = self.rows.values().filter_map(|row| match &row.content {
            Content::Entry(entry) => Some(Candidate {
                entry,
                kept: row.kept_until.is_some(),
            }),
            Content::Override(_) | Content::Settings(_) | Content::Unreadable => None,
        });
        let mut merged = merge(candidates.collect());
        for instance in &mut merged {
            let key = (
                Area::Overrides,
                Bytes::copy_from_slice(instance.id.as_bytes()),
            );
            if let Some(Content::Override(over)) = self.rows.get(&key).map(|row| &row.content) {
                over.apply(instance.to_mut());
            }
        }
        let unchanged = |instance: &Instance| {
            let place = self.given.binary_search_by(|had| had.id.cmp(&instance.id));
            let had = &self.given[place.ok()?];
            had.same_for_callers(instance).then(|| had.clone())
        };
        let all: Arc<[Arc<Instance>]> = merged
            .into_iter()
            .map(|instance| unchanged(&instance).unwrap_or_else(|| Arc::new(instance.into_owned())))
            .collect();
        let same = all.len() == self.given.len()
            && all
                .iter()
                .zip(self.given.iter())
                .all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            self.given = all;
        }
        self.given.clone()
    }

    /// What [`remember`](Self::remember) was given, before anything is loaded.
    pub(super) fn given(&self) -> (Arc<[Arc<Instance>]>, Arc<ServiceSettings>) {
        (self.given.clone(), self.settings.clone())
    }

    /// What operators set for the service.
    pub(super) fn settings(&mut self) -> Arc<ServiceSettings> {
        let found = self.rows.values().find_map(|row| match &row.content {
            Content::Settings(settings) => Some(&**settings),
            Content::Entry(_) | Content::Override(_) | Content::Unreadable => None,
        });
        let settings = found.cloned().unwrap_or_default();
        if *self.settings != settings {
            self.settings = Arc::new(settings);
        }
        self.settings.clone()
    }

    fn put(&mut self, area: Area, kv: KeyValueView) {
        let Some(place) = self.place(area, &kv.key) else {
            return;
        };
        let row = Row {
            content: self.read(&place, &kv.value, kv.mod_revision),
            revision: kv.mod_revision,
            kept_until: None,
        };
        self.rows.insert(place, row);
    }

    fn read(&self, (area, rest): &Place, value: &Bytes, revision: i64) -> Content {
        let content = match area {
            Area::Overrides => serde_json::from_slice(value).ok().map(Content::Override),
            Area::Settings => serde_json::from_slice(value)
                .ok()
                .map(|settings| Content::Settings(Box::new(settings))),
            Area::Native | Area::Kratos | Area::Root | Area::Article => {
                let rest = std::str::from_utf8(rest).unwrap_or_default();
                let entry = layout::decode(*area, &self.service, rest, value, revision);
                entry.ok().map(|entry| Content::Entry(Box::new(entry)))
            }
        };
        content.unwrap_or(Content::Unreadable)
    }

    fn place(&self, area: Area, key: &Bytes) -> Option<Place> {
        let rest = key.strip_prefix(self.prefix(area).as_bytes())?;
        Some((area, key.slice_ref(rest)))
    }
}

impl Row {
    fn is_worth_keeping(&self) -> bool {
        !matches!(self.content, Content::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catena_client::pb::KeyValueView;

    const MINUTE: Duration = Duration::from_secs(60);

    fn table() -> Table {
        Table::new("default", ServiceName::new("user").unwrap(), 5 * MINUTE)
    }

    fn kv(key: &str, value: &str, revision: i64) -> KeyValueView {
        KeyValueView {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            mod_revision: revision,
            ..KeyValueView::default()
        }
    }

    fn article(id: &str, address: &str, revision: i64) -> KeyValueView {
        kv(&format!("/services/user/{id}"), address, revision)
    }

    fn load(table: &mut Table, kvs: Vec<KeyValueView>, history: History, now: Instant) {
        table.load(vec![(Area::Article, kvs)], history, now);
    }

    fn ids(table: &mut Table) -> Vec<String> {
        let all = table.instances();
        all.iter().map(|instance| instance.id.clone()).collect()
    }

    fn put(kv: &KeyValueView) -> Event {
        Event::new(EventType::Put, &kv.encode(), None)
    }

    fn delete(key: &str) -> Event {
        Event::new(EventType::Delete, &kv(key, "", 9).encode(), None)
    }

    #[tokio::test]
    async fn a_delete_is_obeyed_the_last_one_s_too() {
        let mut table = table();
        load(
            &mut table,
            vec![article("1", "h:1", 2)],
            History::Same,
            Instant::now(),
        );
        assert_eq!(ids(&mut table), ["1"]);
        table.apply(Area::Article, &delete("/services/user/1"));
        assert!(ids(&mut table).is_empty());
    }

    #[tokio::test]
    async fn a_reading_of_the_same_store_replaces_everything() {
        let mut table = table();
        let now = Instant::now();
        load(
            &mut table,
            vec![article("1", "h:1", 2), article("2", "h:2", 3)],
            History::Same,
            now,
        );
        load(&mut table, vec![article("2", "h:2", 3)], History::Same, now);
        assert_eq!(ids(&mut table), ["2"]);
        assert!(!table.is_keeping());
    }

    #[tokio::test]
    async fn what_a_store_lost_is_kept_for_a_time() {
        let mut table = table();
        let now = Instant::now();
        let both = vec![article("1", "h:1", 2), article("2", "h:2", 3)];
        load(&mut table, both, History::Same, now);
        let given = table.instances();
        load(&mut table, Vec::new(), History::Lost, now);
        assert!(Arc::ptr_eq(&given, &table.instances()));
        assert!(table.is_keeping());
        // One comes back; a later reading of the same store changes nothing about the other.
        table.apply(Area::Article, &put(&article("2", "h:2", 7)));
        load(
            &mut table,
            vec![article("2", "h:2", 7)],
            History::Same,
            now + MINUTE,
        );
        assert!(Arc::ptr_eq(&given, &table.instances()));
        assert!(!table.expire(now + 4 * MINUTE));
        assert!(table.expire(now + 5 * MINUTE));
        assert_eq!(ids(&mut table), ["2"]);
        assert_eq!(table.next_expiry(), None);
    }

    #[tokio::test]
    async fn what_is_kept_is_deleted_by_an_event() {
        let mut table = table();
        let now = Instant::now();
        load(&mut table, vec![article("1", "h:1", 2)], History::Same, now);
        load(&mut table, Vec::new(), History::Lost, now);
        table.apply(Area::Article, &delete("/services/user/1"));
        assert!(ids(&mut table).is_empty());
    }

    #[tokio::test]
    async fn an_unchanged_instance_is_the_same_one() {
        let mut table = table();
        let now = Instant::now();
        load(
            &mut table,
            vec![article("1", "h:1", 2), article("2", "h:2", 3)],
            History::Same,
            now,
        );
        let before = table.instances();
        // Written again with the same value: callers see nothing new.
        table.apply(Area::Article, &put(&article("1", "h:1", 5)));
        assert!(Arc::ptr_eq(&before, &table.instances()));
        table.apply(Area::Article, &put(&article("1", "h:9", 6)));
        let after = table.instances();
        assert!(!Arc::ptr_eq(&before[0], &after[0]));
        assert!(Arc::ptr_eq(&before[1], &after[1]));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_left_out_and_counted() {
        let mut table = table();
        let kvs = vec![article("1", "h:1", 2), article("2", "nonsense", 3)];
        load(&mut table, kvs, History::Same, Instant::now());
        assert_eq!(
            (ids(&mut table), table.skipped()),
            (vec!["1".to_owned()], 1)
        );
        table.apply(Area::Article, &put(&article("2", "h:2", 4)));
        assert_eq!(table.skipped(), 0);
    }

    #[tokio::test]
    async fn overrides_and_settings_are_merged() {
        let mut table = table();
        let reading = vec![
            (Area::Article, vec![article("1", "h:1", 2)]),
            (
                Area::Overrides,
                vec![kv(
                    "/registry-override/v1/default/user/1",
                    r#"{"weight":7}"#,
                    3,
                )],
            ),
            (
                Area::Settings,
                vec![kv("/registry-service/v1/default/user", r#"{"lb":"rr"}"#, 4)],
            ),
        ];
        table.load(reading, History::Same, Instant::now());
        assert_eq!(table.instances()[0].weight, 7);
        assert_eq!(table.settings().lb.as_deref(), Some("rr"));
        table.apply(
            Area::Overrides,
            &delete("/registry-override/v1/default/user/1"),
        );
        table.apply(Area::Settings, &delete("/registry-service/v1/default/user"));
        assert_eq!(table.instances()[0].weight, 100);
        assert_eq!(*table.settings(), ServiceSettings::default());
    }

    #[tokio::test]
    async fn agreement_is_about_keys_and_revisions() {
        let mut table = table();
        let two = vec![article("1", "h:1", 2), article("2", "nonsense", 3)];
        load(&mut table, two.clone(), History::Same, Instant::now());
        assert!(table.agrees(Area::Article, &two));
        assert!(!table.agrees(Area::Article, &two[..1]));
        assert!(!table.agrees(Area::Article, &[]));
        let other = vec![article("1", "h:1", 2), article("2", "nonsense", 4)];
        assert!(!table.agrees(Area::Article, &other));
        // What is kept says nothing about the store.
        load(&mut table, Vec::new(), History::Lost, Instant::now());
        assert!(table.agrees(Area::Article, &[]));
    }
}

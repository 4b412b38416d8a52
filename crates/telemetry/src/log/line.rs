//! One event as a line of text.

use std::{fmt::Write, time::Duration};

use serde_json::Value;
use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
};

/// An event, taken apart.
pub(super) struct Line<'a> {
    metadata: &'a Metadata<'static>,
    since_epoch: Duration,
    message: &'a str,
    fields: Fields,
}

/// All but the message.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl<'a> Line<'a> {
    pub(super) fn new(event: &'a Event<'_>, since_epoch: Duration, message: &'a str) -> Self {
        let mut fields = Fields::default();
        event.record(&mut fields);
        Self {
            metadata: event.metadata(),
            since_epoch,
            message,
            fields,
        }
    }

    pub(super) fn to_json(&self) -> String {
        let mut out = format!(
            r#"{{"level":"{}","ts":"{}","caller":{},"msg":{}"#,
            self.level(),
            timestamp(self.since_epoch),
            Value::from(caller(self.metadata)),
            Value::from(self.message),
        );
        for (name, value) in &self.fields.0 {
            push_field(&mut out, ",", name, value);
        }
        out.push_str("}\n");
        out
    }

    pub(super) fn to_console(&self) -> String {
        let mut out = format!(
            "{}\t{}\t{}\t{}",
            timestamp(self.since_epoch),
            self.level(),
            caller(self.metadata),
            self.message,
        );
        let mut before = "\t{";
        for (name, value) in &self.fields.0 {
            push_field(&mut out, before, name, value);
            before = ", ";
        }
        out.push_str(if self.fields.0.is_empty() {
            "\n"
        } else {
            "}\n"
        });
        out
    }

    fn level(&self) -> &'static str {
        match *self.metadata.level() {
            Level::ERROR if is_ours(self.metadata) => "error",
            Level::ERROR | Level::WARN => "warn",
            Level::INFO => "info",
            // zap has nothing below debug.
            Level::DEBUG | Level::TRACE => "debug",
        }
    }
}

/// Whether an event is one of ours, not of a library.
pub(super) fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("catena")
}

/// The crate's directory and the file, as etcd shows the package's.
pub(super) fn caller(metadata: &Metadata<'_>) -> String {
    let path = metadata.file().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let root = path.split("/src/").next().unwrap_or_default();
    let owner = root.rsplit('/').next().unwrap_or_default();
    format!("{owner}/{file}:{}", metadata.line().unwrap_or_default())
}

/// What an event says, without its fields.
pub(super) fn message(event: &Event<'_>) -> String {
    let mut message = Message::default();
    event.record(&mut message);
    message.0
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0 = value.to_owned();
        }
    }
}

fn push_field(out: &mut String, before: &str, name: &str, value: &Value) {
    let name = Value::from(name.replace('_', "-"));
    write!(out, "{before}{name}:{value}").expect("writing to memory does not fail");
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        if field.name() != "message" {
            self.0.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.push(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, value.to_string().into());
    }
}

/// UTC in RFC 3339 with six decimals.
pub fn timestamp(since_epoch: Duration) -> String {
    let secs = since_epoch.as_secs();
    let (year, month, day) = civil(secs / 86_400);
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    let micros = since_epoch.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Date of a day counted from 1970-01-01. The year is taken to begin in March, so that the leap day is its last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const ERA_DAYS: u64 = 146_097;
    let days = days + DAYS_TO_1970;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_utc_with_six_decimals() {
        let at = |secs, micros| timestamp(Duration::new(secs, micros * 1000_u32));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_400, 5), "2000-02-29T00:00:00.000005Z");
        assert_eq!(at(951_868_799, 0), "2000-02-29T23:59:59.000000Z");
        assert_eq!(at(1_767_366_245, 123_456), "2026-01-02T15:04:05.123456Z");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28T23:59:59.000000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }
}

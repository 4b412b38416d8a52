//! Series in the text format of Prometheus.

use std::fmt::Write;

/// One metric after the other.
pub(crate) struct Family<'a> {
    text: &'a mut String,
}

impl<'a> Family<'a> {
    pub(crate) fn new(text: &'a mut String) -> Self {
        Self { text }
    }
}

impl Family<'_> {
    pub(crate) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.write(format_args!("{name}"));
        for (place, (label, text)) in labels.iter().enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            // Rust's escapes of quotes, backslashes and line ends are Prometheus' own; names hold nothing else to escape.
            self.write(format_args!("{open}{label}={text:?}"));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{close} {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text
            .write_fmt(text)
            .expect("writing to a string does not fail");
    }
}

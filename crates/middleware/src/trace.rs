//! The trace that a request belongs to, by W3C's `traceparent`.
//!
//! A request without one, or with one that the standard calls invalid (zero ids, version `ff`), begins a trace. Each process adds a
//! span of its own: outgoing calls name it as their parent, and `x-trace-id` tells it to the client.

use std::fmt::{self, Write};

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

/// Where a trace comes in and goes out.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What vendors add to it; handed on as it is.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where the client finds its trace.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// Bytes of `tracestate` that are handed on: the standard asks for 512, and longer ones may be dropped.
const TRACESTATE_BYTES_MAX: usize = 512;

/// The flag that the trace is recorded.
const SAMPLED: u8 = 1;

/// One span of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    flags: u8,
    state: Option<HeaderValue>,
}

/// The id of a trace: written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The id of a span: written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Trace {
    /// The span of a request that came in with these headers.
    pub fn begin(headers: &HeaderMap) -> Self {
        let mut rng = rand::rng();
        let span = rng.random_range(1..=u64::MAX);
        match Parent::of(headers) {
            Some(parent) => Self {
                trace: parent.trace,
                span,
                parent: Some(parent.span),
                flags: parent.flags,
                state: headers
                    .get(&TRACESTATE)
                    .filter(|state| state.len() <= TRACESTATE_BYTES_MAX)
                    .cloned(),
            },
            None => Self {
                trace: rng.random_range(1..=u128::MAX),
                span,
                parent: None,
                flags: SAMPLED,
                state: None,
            },
        }
    }

    /// A span within this one.
    pub(crate) fn child(&self) -> Self {
        Self {
            span: rand::rng().random_range(1..=u64::MAX),
            parent: Some(self.span),
            ..self.clone()
        }
    }

    /// The trace's id.
    pub fn id(&self) -> TraceId {
        TraceId(self.trace)
    }

    /// This span's id.
    pub fn span_id(&self) -> SpanId {
        SpanId(self.span)
    }

    /// The id of the span that called, if one did.
    pub fn parent_id(&self) -> Option<SpanId> {
        self.parent.map(SpanId)
    }

    /// Names this span as the parent of a call that goes out.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let mut text = String::with_capacity(55);
        write!(
            text,
            "00-{}-{}-{:02x}",
            self.id(),
            self.span_id(),
            self.flags
        )
        .expect("a String takes everything");
        let value = HeaderValue::try_from(text).expect("digits and dashes are a header's value");
        headers.insert(TRACEPARENT, value);
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// What a valid `traceparent` says.
struct Parent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl Parent {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let text = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        // Later versions may add parts; version 0 has none.
        let complete = version != 0 || parts.next().is_none();
        let parent = Self {
            trace,
            span: u64::try_from(span).ok()?,
            flags: u8::try_from(flags).ok()?,
        };
        (complete && version != 0xff && parent.trace != 0 && parent.span != 0).then_some(parent)
    }
}

/// Lower-case hexadecimal digits, exactly so many.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let valid = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(valid) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn of(traceparent: &str) -> Trace {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, traceparent.parse().unwrap());
        headers.insert(TRACESTATE, "vendor=1".parse().unwrap());
        Trace::begin(&headers)
    }

    #[test]
    fn a_trace_goes_on() {
        let trace = of(&format!("00-{ID}-b7ad6b7169203331-00"));
        assert_eq!(trace.id().to_string(), ID);
        assert_eq!(trace.parent_id().unwrap().to_string(), "b7ad6b7169203331");
        let mut out = HeaderMap::new();
        trace.inject(&mut out);
        assert_eq!(out[TRACEPARENT], format!("00-{ID}-{}-00", trace.span_id()));
        assert_eq!(out[TRACESTATE], "vendor=1");
        let later = of(&format!("01-{ID}-b7ad6b7169203331-01-more"));
        assert_eq!(later.id(), trace.id());
    }

    #[test]
    fn what_is_invalid_begins_another() {
        for text in [
            format!("ff-{ID}-b7ad6b7169203331-01"),
            format!("00-{ID}-b7ad6b7169203331-01-more"),
            format!("00-{ID}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{}-b7ad6b7169203331-01", ID.to_uppercase()),
            format!("00-{ID}-b7ad6b716920333-01"),
            format!("00-{ID}"),
            String::new(),
        ] {
            let trace = of(&text);
            let id = trace.id().to_string();
            assert!(id != ID && trace.parent_id().is_none(), "{text}");
            assert_eq!(id.len(), 32);
        }
    }
}

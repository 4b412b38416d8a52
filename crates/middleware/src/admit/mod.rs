//! What is turned away before a handler sees it.
//!
//! - [`host`]: requests that were not meant for this address. Until there are tokens, this and the next are what keeps web pages
//!   out: a page can make a browser send requests to loopback, but under the name of its own host, and without a preflight only
//!   with the content types of forms;
//! - [`origin`]: WebSockets of pages of other sites, which browsers let these open without asking;
//! - [`content`]: writes that are not JSON;
//! - [`target`]: paths and heads that are malformed or too long;
//! - [`body`]: bodies that are too long or too slow.

pub mod body;
pub mod content;
pub mod host;
pub mod origin;
pub mod target;

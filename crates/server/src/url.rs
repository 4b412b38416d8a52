//! The URLs that etcd's flags take.

use std::{fmt, str::FromStr};

/// Where to listen, or where a member is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Url {
    /// `http://host:port`; an IPv6 host stands without its brackets.
    Http {
        /// An address or a name.
        host: String,
        /// The port; 0 = any free one, for tests.
        port: u16,
    },
    /// `unix://path`.
    Unix {
        /// The socket's file; etcd's `unix://localhost:2379` makes a file of that name.
        path: String,
    },
}

/// A text that is no URL of a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// `https` and `unixs` need certificates, which are not built yet.
    #[error("URL scheme {0} needs TLS, which is not built yet: {1}")]
    Tls(String, String),
    /// Another scheme, or none.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// No port, or no number after the colon.
    #[error("URL address does not have the form \"host:port\": {0}")]
    Address(String),
    /// Something after the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

impl Url {
    /// A plain HTTP URL.
    pub fn http(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self::Http { host, port }
    }

    /// What stands after the scheme: `host:port`, or the path.
    pub fn address(&self) -> String {
        match self {
            Self::Http { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Http { host, port } => format!("{host}:{port}"),
            Self::Unix { path } => path.clone(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self {
            Self::Http { .. } => "http",
            Self::Unix { .. } => "unix",
        };
        write!(f, "{scheme}://{}", self.address())
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let given = || text.to_owned();
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| UrlError::Scheme(given()))?;
        match scheme {
            "http" => {}
            "unix" if !rest.is_empty() => {
                let path = rest.to_owned();
                return Ok(Self::Unix { path });
            }
            "https" | "unixs" => return Err(UrlError::Tls(scheme.to_owned(), given())),
            _ => return Err(UrlError::Scheme(given())),
        }
        let (address, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| UrlError::Address(given()))?;
        let bare = match host.strip_prefix('[') {
            Some(open) => open.strip_suffix(']'),
            None => Some(host).filter(|host| !host.contains(':')),
        };
        let (Some(host), Ok(port)) = (bare, port.parse()) else {
            return Err(UrlError::Address(given()));
        };
        // A single slash is what people paste; etcd refuses it as well.
        if !path.is_empty() {
            return Err(UrlError::Path(given()));
        }
        Ok(Self::http(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_print_as_they_are_read() {
        for text in [
            "http://127.0.0.1:2379",
            "http://[::1]:2379",
            "http://localhost:0",
            "http://:2379",
            "unix:///run/catena.sock",
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_urls_are_refused() {
        let error = |text: &str| text.parse::<Url>().unwrap_err();
        assert!(matches!(error("127.0.0.1:2379"), UrlError::Scheme(_)));
        assert!(matches!(error("ftp://a:1"), UrlError::Scheme(_)));
        assert!(matches!(error("unix://"), UrlError::Scheme(_)));
        assert!(matches!(error("https://a:1"), UrlError::Tls(..)));
        assert!(matches!(error("http://a"), UrlError::Address(_)));
        assert!(matches!(error("http://a:b"), UrlError::Address(_)));
        assert!(matches!(error("http://::1:80"), UrlError::Address(_)));
        assert!(matches!(error("http://a:1/"), UrlError::Path(_)));
    }
}

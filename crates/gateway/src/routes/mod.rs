//! The routes, one handler a file; [`TABLE`] lists them in the order in which they are read.

mod change;
mod create;
mod get_user;
mod list;
mod one;
mod ping;
mod user;

use axum::{
    Router,
    routing::{get, post},
};

use crate::UserCalls;

/// One route as it is shown to people.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path with its parameters.
    pub path: &'static str,
    /// What it does.
    pub about: &'static str,
}

const fn route(method: &'static str, path: &'static str, about: &'static str) -> Route {
    Route {
        method,
        path,
        about,
    }
}

/// All routes of the gateway itself.
pub const TABLE: &[Route] = &[
    route("GET", "/ping", "pong, without any service"),
    route("GET", "/user/{id}", "the article's GetUser, over gRPC"),
    route("POST", "/users", "create a user"),
    route("GET", "/users", "list users: ?limit=&cursor="),
    route("GET", "/users/{id}", "one user"),
    route("PUT", "/users/{id}", "replace a user"),
    route("PATCH", "/users/{id}", "change a user"),
    route("DELETE", "/users/{id}", "remove a user"),
    route("GET", "/healthz", "whether the process lives"),
    route("GET", "/readyz", "whether it is ready, check by check"),
    route("GET", "/metrics", "series for Prometheus"),
];

/// The routes that need handlers of their own.
pub(crate) fn router() -> Router<UserCalls> {
    Router::new()
        .route("/ping", get(ping::ping))
        .route("/user/{id}", get(get_user::get_user))
        .route("/users", post(create::create).get(list::list))
        .route(
            "/users/{id}",
            get(one::one)
                .put(change::update)
                .patch(change::patch)
                .delete(one::delete),
        )
}

/// Whether a path is one of a pattern's.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_segments() {
        assert!(matches("/users/{id}", "/users/7"));
        assert!(matches("/users", "/users"));
        for path in ["/users/", "/users", "/users/7/", "/users/7/x", "/user/7"] {
            assert!(!matches("/users/{id}", path), "{path}");
        }
    }

    /// A15 of the article: two samples claim one pattern. Here the table has each once, and the router refuses another at start.
    #[test]
    fn no_two_routes_claim_one_pattern() {
        for (at, one) in TABLE.iter().enumerate() {
            let same = |other: &&Route| {
                other.method == one.method
                    && (matches(one.path, other.path) || matches(other.path, one.path))
            };
            assert_eq!(
                TABLE[at + 1..].iter().find(same).map(|route| route.path),
                None
            );
        }
        let refused = std::panic::catch_unwind(|| {
            let both: Router = Router::new()
                .route("/user/{name}", get(ping::ping))
                .route("/user/{id}", get(ping::ping));
            both
        });
        assert!(refused.is_err());
    }
}

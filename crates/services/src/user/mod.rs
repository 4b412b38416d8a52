//! Who there is.
//!
//! - [`Directory`]: the domain: users in a database, with the rules that they keep;
//! - `grpc`: `catena.user.v1.Users` and the article's `example.UserService`, thin over the directory;
//! - [`UserService`]: both with health and reflection inside of the middleware's chain, ready for a listener;
//! - [`LocalUsers`]: both for a caller in the same process.
//!
//! Ids are 64 bits wide, begin at 1, and none is given twice. An address belongs to one user, whatever case it is written in.

mod cursor;
mod directory;
mod grpc;
mod local;
mod queries;
mod server;

use catena_middleware::error::Reason;

pub use directory::{Directory, Draft, Patch, User};
pub use local::LocalUsers;
pub use server::{UserOptions, UserService};

/// Nobody has this id.
pub static USER_NOT_FOUND: Reason =
    Reason::new(404, "USER_NOT_FOUND", "用户不存在", "no such user");

/// Somebody has this address.
pub static USER_ALREADY_EXISTS: Reason = Reason::new(
    409,
    "USER_ALREADY_EXISTS",
    "该邮箱已被使用",
    "the email address is taken",
);

/// A cursor that no list has given.
pub static INVALID_CURSOR: Reason =
    Reason::new(400, "INVALID_CURSOR", "游标不正确", "the cursor is invalid");

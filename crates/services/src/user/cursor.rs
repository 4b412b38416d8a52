//! Where a list ended: opaque to clients, so that it may become something else.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use catena_middleware::error::{Error, Result};

use super::INVALID_CURSOR;

/// What a cursor begins with.
const VERSION: u8 = 1;

pub(super) fn write(last_id: i64) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(last_id.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The id after which the list goes on; an empty cursor is the beginning.
pub(super) fn read(cursor: &str) -> Result<i64> {
    if cursor.is_empty() {
        return Ok(0);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let id = bytes
        .as_deref()
        .and_then(|bytes| match bytes.split_first() {
            Some((&VERSION, id)) => Some(i64::from_be_bytes(id.try_into().ok()?)),
            Some(_) | None => None,
        });
    id.filter(|id| *id > 0)
        .ok_or_else(|| Error::of(&INVALID_CURSOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_others_are_refused() {
        for id in [1, 77, i64::MAX] {
            assert_eq!(read(&write(id)).unwrap(), id);
        }
        assert_eq!(read("").unwrap(), 0);
        for cursor in [
            "7",
            "!",
            "AAAA",
            &write(0),
            &write(-1),
            &format!("{}A", write(7)),
        ] {
            assert!(read(cursor).unwrap_err().is(&INVALID_CURSOR), "{cursor}");
        }
    }
}

//! Fields that the gateway and a service judge alike.

use std::borrow::Cow;

use super::{Field, Rule};

/// Characters of a name: as many as fit on a line.
const NAME_CHARS_MAX: usize = 100;

/// The greatest age that is believed, the article's.
const AGE_MAX: i64 = 150;

/// A user's name.
pub static NAME: Field = Field::new(
    "name",
    "用户名",
    &[
        Rule::Required,
        Rule::NotBlank,
        Rule::Printable,
        Rule::MaxChars(NAME_CHARS_MAX),
    ],
);

/// A user's address for mail.
pub static EMAIL: Field = Field::new(
    "email",
    "邮箱",
    &[Rule::Required, Rule::NotBlank, Rule::Email],
);

/// A user's id, as a text.
pub static USER_ID: Field = Field::new("user_id", "用户编号", &[Rule::Required, Rule::NotBlank]);

/// Items that one list may have.
const LIST_MAX: i64 = 100;

/// How many items a list has.
pub static LIMIT: Field = Field::new("limit", "数量", &[Rule::Gte(1), Rule::Lte(LIST_MAX)]);

/// A user's age, if one is given.
pub fn age(min: u8) -> Field {
    Field {
        name: "age",
        zh: "年龄",
        rules: Cow::Owned(vec![Rule::Gte(min.into()), Rule::Lte(AGE_MAX)]),
    }
}

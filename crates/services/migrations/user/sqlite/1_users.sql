-- AUTOINCREMENT: an id that was given once is never given again, even if its row is deleted.
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    age INTEGER
) STRICT;

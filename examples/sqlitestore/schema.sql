CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, value BLOB);
CREATE TABLE IF NOT EXISTS stream (id INTEGER PRIMARY KEY, name BLOB UNIQUE, last INTEGER);
CREATE TABLE IF NOT EXISTS message (seq INTEGER PRIMARY KEY, number INTEGER, priority INTEGER,
	id BLOB, accepted INTEGER, expires INTEGER, policy INTEGER, packet BLOB, deferral BLOB);
CREATE INDEX IF NOT EXISTS by_priority ON message (priority, seq);
CREATE INDEX IF NOT EXISTS deferred ON message (seq) WHERE deferral IS NOT NULL

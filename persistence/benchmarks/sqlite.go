package benchmarks

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver
)

// sqliteQueue is a table with a number and a packet. It has a write-ahead log with an fsync at each
// commit, one connection that writes groups, and one that reads. Statements are prepared once and
// insert many rows.
type sqliteQueue struct {
	db          *sql.DB
	write, read *sql.Conn
	many, one   *sql.Stmt
	begin, end  *sql.Stmt
	del, sel    *sql.Stmt
	args        []any
	last, at    uint64 // the last number assigned, and the last one read
	gone        uint64 // the last one deleted
	group       *group
}

// sqliteRows is the number of rows of the longer insert statement.
const sqliteRows = 64

func openSQLite(dir string) (queue, error) {
	pragmas := url.Values{"_pragma": {
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"wal_autocheckpoint(16000)", // 64 MB, like a segment of mooring
		"cache_size(-65536)",
		"temp_store(MEMORY)",
		"busy_timeout(10000)",
	}}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "queue.db")+"?"+pragmas.Encode())
	if err != nil {
		return nil, err
	}
	q := &sqliteQueue{db: db}
	if err := q.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q.group = newGroup(q.commit)
	return q, nil
}

func (q *sqliteQueue) prepare() (err error) {
	ctx := context.Background()
	if q.write, err = q.db.Conn(ctx); err != nil {
		return err
	}
	if q.read, err = q.db.Conn(ctx); err != nil {
		return err
	}
	if _, err = q.write.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS queue (seq INTEGER PRIMARY KEY, packet BLOB NOT NULL)"); err != nil {
		return err
	}
	row := q.write.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0), coalesce(min(seq), 1) - 1 FROM queue")
	if err = row.Scan(&q.last, &q.at); err != nil {
		return err
	}
	q.gone = q.at
	for _, s := range []struct {
		stmt **sql.Stmt
		conn *sql.Conn
		text string
	}{
		{&q.begin, q.write, "BEGIN IMMEDIATE"},
		{&q.end, q.write, "COMMIT"},
		{&q.one, q.write, "INSERT INTO queue VALUES (?, ?)"},
		{&q.many, q.write, "INSERT INTO queue VALUES (?, ?)" + strings.Repeat(", (?, ?)", sqliteRows-1)},
		{&q.del, q.write, "DELETE FROM queue WHERE seq <= ?"},
		{&q.sel, q.read, "SELECT seq, packet FROM queue WHERE seq > ? ORDER BY seq LIMIT ?"},
	} {
		if *s.stmt, err = s.conn.PrepareContext(ctx, s.text); err != nil {
			return err
		}
	}
	return nil
}

func (q *sqliteQueue) Append(packet []byte) error { return q.group.append(packet) }

func (q *sqliteQueue) commit(packets [][]byte, taken uint64) error {
	if len(packets) == 0 && taken == q.gone {
		return nil
	}
	if _, err := q.begin.Exec(); err != nil {
		return err
	}
	if taken > q.gone {
		if _, err := q.del.Exec(taken); err != nil {
			return err
		}
		q.gone = taken
	}
	for len(packets) > 0 {
		stmt, n := q.one, 1
		if len(packets) >= sqliteRows {
			stmt, n = q.many, sqliteRows
		}
		q.args = q.args[:0]
		for _, p := range packets[:n] {
			q.last++
			q.args = append(q.args, q.last, p)
		}
		if _, err := stmt.Exec(q.args...); err != nil {
			return err
		}
		packets = packets[n:]
	}
	_, err := q.end.Exec()
	return err
}

func (q *sqliteQueue) Take(n int, visit func([]byte)) (int, error) {
	rows, err := q.sel.Query(q.at, n)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	taken := 0
	var packet sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&q.at, &packet); err != nil {
			return taken, err
		}
		visit(packet)
		taken++
	}
	q.group.note(q.at)
	return taken, rows.Err()
}

func (q *sqliteQueue) Flush() error { return q.group.flush() }

func (q *sqliteQueue) Close() error {
	return errors.Join(q.group.close(), q.write.Close(), q.read.Close(), q.db.Close())
}

// Package sqlitestore is an example of a custom persistence.Store: the outbox of a
// client in a SQLite database.
//
// All methods use one transaction, which Wait and Sync commit. Concurrent callers
// therefore share one sync of the disk. The store has the required methods only: no
// receipts, no dead letters, and no policy that drops messages.
package sqlitestore

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
	_ "modernc.org/sqlite" // the driver
)

// Store is a persistence.Store in a SQLite database. Open returns one. Package
// persistence documents its methods.
type Store struct {
	limits persistence.Limits

	mu      sync.Mutex // guards the fields below
	db      *sql.DB
	tx      *sql.Tx
	state   state
	changed bool   // since the last commit
	durable uint64 // highest sequence that is committed
	err     error  // the store is closed or has failed
}

// state is everything but messages and streams. It is one row of the database, and
// each commit writes it.
type state struct {
	Epoch    uint64
	Stats    persistence.Stats              // Accepted is the highest sequence
	Numbers  [persistence.Priorities]uint64 // highest Number of each priority
	Sent     [persistence.Priorities]uint64
	Released []persistence.Position
	Seen     map[uint16]bool
	Session  bool
	ClientID []byte
}

const schema = `
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, value BLOB);
CREATE TABLE IF NOT EXISTS stream (id INTEGER PRIMARY KEY, name BLOB UNIQUE, last INTEGER);
CREATE TABLE IF NOT EXISTS message (seq INTEGER PRIMARY KEY, number INTEGER, priority INTEGER,
	id BLOB, accepted INTEGER, expires INTEGER, policy INTEGER, packet BLOB);
CREATE INDEX IF NOT EXISTS by_priority ON message (priority, seq)`

// Open opens the database at path, and creates it if it does not exist.
func Open(path string, limits persistence.Limits) (*Store, error) {
	pragmas := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "locking_mode(EXCLUSIVE)"}}
	db, err := sql.Open("sqlite", "file:"+path+"?"+pragmas.Encode())
	if err != nil {
		return nil, err
	}
	s := &Store{limits: limits.WithDefaults(), db: db, state: state{Epoch: uint64(time.Now().UnixMilli()), Seen: map[uint16]bool{}}}
	s.tx, s.err = db.Begin()
	s.exec(schema)
	var value []byte
	if s.get("SELECT value FROM state", nil, &value) {
		s.fail("read the state", json.Unmarshal(value, &s.state))
	}
	if err := s.commit(); err != nil {
		return nil, fmt.Errorf("sqlitestore: open %s: %w", path, errors.Join(err, db.Close()))
	}
	return s, nil
}

func (s *Store) lock() (unlock func()) {
	s.mu.Lock()
	return s.mu.Unlock
}

func (s *Store) fail(op string, err error) {
	if err != nil && s.err == nil {
		s.err = &persistence.FailedError{Op: op, Err: err}
	}
}

// exec executes a statement and returns the number of rows that changed.
func (s *Store) exec(query string, args ...any) (n int64) {
	if s.err == nil {
		result, err := s.tx.Exec(query, args...)
		if s.fail(query, err); err == nil {
			n, _ = result.RowsAffected()
		}
		s.changed = true
	}
	return n
}

// get reads one row and reports whether it exists.
func (s *Store) get(query string, args []any, values ...any) bool {
	if s.err != nil {
		return false
	}
	err := s.tx.QueryRow(query, args...).Scan(values...)
	if !errors.Is(err, sql.ErrNoRows) {
		s.fail(query, err)
	}
	return err == nil
}

// update changes the state if the store is open.
func (s *Store) update(change func(*state)) error {
	defer s.lock()()
	if s.err == nil {
		change(&s.state)
		s.changed = true
	}
	return s.err
}

func (s *Store) commit() error {
	if s.changed && s.err == nil {
		value, err := json.Marshal(s.state)
		s.fail("write the state", err)
		s.exec("INSERT OR REPLACE INTO state VALUES (1, ?)", value)
		if s.err == nil {
			s.fail("COMMIT", s.tx.Commit())
			s.changed = false
		}
		if s.err == nil {
			s.tx, err = s.db.Begin()
			s.fail("BEGIN", err)
		}
	}
	if s.err == nil {
		s.durable = s.state.Stats.Accepted
	}
	return s.err
}

func (s *Store) Sync() error {
	defer s.lock()()
	return s.commit()
}

func (s *Store) Close() error {
	defer s.lock()()
	if s.err == persistence.ErrClosed {
		return nil
	}
	err := s.commit()
	s.err = persistence.ErrClosed
	return errors.Join(err, s.tx.Rollback(), s.db.Close())
}

func (s *Store) Enqueue(m *persistence.Message) (persistence.Ticket, error) {
	defer s.lock()()
	st := &s.state
	if err := cmp.Or(s.err, s.limits.Admit(m, int(st.Stats.Pending), st.Stats.PendingBytes)); err != nil {
		return persistence.Ticket{}, err
	}
	if m.Stream != 0 && s.exec("UPDATE stream SET last = ? WHERE id = ?", m.StreamSeq, m.Stream) == 0 {
		return persistence.Ticket{}, cmp.Or[error](s.err, persistence.ErrUnknownStream)
	}
	st.Stats.Accepted++
	st.Numbers[m.Priority]++
	st.Numbers[persistence.Normal] = st.Stats.Accepted
	accepted, expires := m.Accepted, sql.NullInt64{Int64: m.Expires.UnixMilli(), Valid: !m.Expires.IsZero()}
	if accepted.IsZero() {
		accepted = s.Now()
	}
	s.exec("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)", st.Stats.Accepted, st.Numbers[m.Priority], m.Priority,
		m.ID[:], accepted.UnixMilli(), expires, m.OnSessionLost, m.Packet)
	s.count(m.Priority, 1, len(m.Packet))
	return persistence.Ticket{Seq: st.Stats.Accepted}, s.err
}

func (s *Store) count(p persistence.Priority, n, size int) {
	s.state.Stats.Pending += uint64(n)
	s.state.Stats.PendingOf[p] += uint64(n)
	s.state.Stats.PendingBytes += int64(n * size)
}

func (s *Store) Wait(t persistence.Ticket) error {
	defer s.lock()()
	if t.Seq <= s.durable {
		return nil
	}
	return s.commit()
}

func (s *Store) Next(c *persistence.Cursor, e *persistence.Entry) (found bool, err error) {
	defer s.lock()()
	for p := persistence.Priorities - 1; p >= 0 && !found; p-- {
		found = s.read(e, "priority = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT 1", p, int64(min(c[p], s.durable)), s.durable)
	}
	return found, s.err
}

func (s *Store) Get(seq uint64, e *persistence.Entry) (found bool, err error) {
	defer s.lock()()
	return seq <= s.durable && s.read(e, "seq = ?", seq), s.err
}

// read sets e to the message for which a condition holds.
func (s *Store) read(e *persistence.Entry, condition string, args ...any) bool {
	var id []byte
	var accepted int64
	var expires sql.NullInt64
	if !s.get("SELECT seq, number, priority, id, accepted, expires, policy, packet FROM message WHERE "+condition, args,
		&e.Seq, &e.Number, &e.Priority, &id, &accepted, &expires, &e.OnSessionLost, &e.Packet) {
		return false
	}
	e.ID, e.Accepted, e.Expires = [16]byte(id), time.UnixMilli(accepted), time.Time{}
	if expires.Valid {
		e.Expires = time.UnixMilli(expires.Int64)
	}
	e.Released = slices.Contains(s.state.Released, persistence.Position{Seq: e.Seq, Number: e.Number, Priority: e.Priority})
	return true
}

func (s *Store) First(p persistence.Priority) (number uint64) {
	defer s.lock()()
	s.get("SELECT number FROM message WHERE priority = ? ORDER BY seq LIMIT 1", []any{p}, &number)
	return number
}

func (s *Store) SetSent(p persistence.Priority, number uint64) error {
	if p >= persistence.Priorities {
		return persistence.ErrPriority
	}
	return cmp.Or(s.update(func(st *state) { st.Sent[p] = number }), s.Sync())
}

func (s *Store) Release(seq uint64) error {
	return s.pending(seq, func(e *persistence.Entry) {
		if !e.Released {
			s.state.Released = append(s.state.Released, persistence.Position{Seq: seq, Number: e.Number, Priority: e.Priority})
		}
	})
}

func (s *Store) Done(seq uint64, r persistence.Result) error {
	if r.Kind < persistence.Acked || r.Kind > persistence.DeadLettered {
		return persistence.ErrUnknownResult
	}
	return s.pending(seq, func(e *persistence.Entry) {
		s.exec("DELETE FROM message WHERE seq = ?", seq)
		s.state.Released = slices.DeleteFunc(s.state.Released, func(p persistence.Position) bool { return p.Seq == seq })
		s.count(e.Priority, -1, len(e.Packet))
		stats := &s.state.Stats
		*[]*uint64{&stats.Acked, &stats.Refused, &stats.Expired, &stats.Dropped, &stats.DeadLettered}[r.Kind-persistence.Acked]++
	})
}

// pending calls change if the message is pending.
func (s *Store) pending(seq uint64, change func(*persistence.Entry)) error {
	defer s.lock()()
	var e persistence.Entry
	if s.err == nil && (seq == 0 || seq > s.state.Stats.Accepted) {
		return persistence.ErrUnknownSequence
	}
	if s.read(&e, "seq = ?", seq) {
		change(&e)
		s.changed = true
	}
	return s.err
}

func (s *Store) Seen(id uint16) error {
	if id == 0 {
		return persistence.ErrPacketID
	}
	return s.update(func(st *state) { st.Seen[id] = true })
}

func (s *Store) Cleared(id uint16) error {
	if id == 0 {
		return persistence.ErrPacketID
	}
	return s.update(func(st *state) { delete(st.Seen, id) })
}

func (s *Store) ResetSession(clientID string) error {
	if len(clientID) > 65_535 {
		return persistence.ErrClientID
	}
	return cmp.Or(s.update(func(st *state) {
		st.Session, st.ClientID, st.Seen = true, []byte(clientID), map[uint16]bool{}
		st.Released, st.Sent = nil, [persistence.Priorities]uint64{}
	}), s.Sync())
}

func (s *Store) Stream(name string) (id uint32, last uint64, err error) {
	if name == "" || len(name) > 1024 {
		return 0, 0, persistence.ErrStreamName
	}
	defer s.lock()()
	var others int
	s.get("SELECT count(*) FROM stream WHERE name <> ?", []any{[]byte(name)}, &others)
	if others >= s.limits.MaxStreams {
		return 0, 0, &persistence.FullError{Limit: "MaxStreams", Max: int64(s.limits.MaxStreams)}
	}
	s.exec("INSERT OR IGNORE INTO stream (name, last) VALUES (?, 0)", []byte(name))
	s.get("SELECT id, last FROM stream WHERE name = ?", []any{[]byte(name)}, &id, &last)
	return id, last, s.err
}

// value returns a part of the state.
func value[T any](s *Store, of func(*state) T) T {
	defer s.lock()()
	return of(&s.state)
}

func (s *Store) Released() []persistence.Position {
	return value(s, func(st *state) []persistence.Position { return slices.Clone(st.Released) })
}

func (s *Store) Sent(p persistence.Priority) uint64 {
	if p >= persistence.Priorities {
		return 0
	}
	return value(s, func(st *state) uint64 { return st.Sent[p] })
}

func (s *Store) SeenIDs() []uint16 {
	return value(s, func(st *state) []uint16 { return slices.Sorted(maps.Keys(st.Seen)) })
}

func (s *Store) Stats() persistence.Stats {
	return value(s, func(st *state) persistence.Stats { return st.Stats })
}

func (s *Store) Session() (clientID string, known bool) {
	st := value(s, func(st *state) state { return *st })
	return string(st.ClientID), st.Session
}

func (s *Store) Epoch() uint64 { return value(s, func(st *state) uint64 { return st.Epoch }) }

func (s *Store) LastSeq() uint64 { return s.Stats().Accepted }

func (s *Store) Now() time.Time { return time.Now() }

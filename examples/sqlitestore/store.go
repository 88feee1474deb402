// Package sqlitestore is an example of a custom persistence.Store: the outbox of a client in a SQLite
// database. All methods use one transaction, which Wait and Sync commit: concurrent callers share one
// sync of the disk. The optional parts of the interface are left out.
package sqlitestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
	_ "modernc.org/sqlite" // the driver
)

// Store is a persistence.Store. Package persistence documents its methods.
type Store struct {
	limits  persistence.Limits
	mu      sync.Mutex // guards the fields below
	db      *sql.DB
	tx      *sql.Tx
	state   state
	changed bool   // since the last commit
	durable uint64 // highest sequence that is committed
	err     error  // the store is closed or has failed
}

// state is everything but messages and streams. Each commit writes it as one row.
type state struct {
	Epoch    uint64
	Stats    persistence.Stats              // Accepted is the highest sequence
	Numbers  [persistence.Priorities]uint64 // highest Number of each priority
	Sent     [4]uint64                      // by priority; the last one stays 0
	Released []persistence.Position
	Seen     map[uint16]bool
	Prints   map[uint16]uint64 // fingerprints of Seen
	Key      []byte            // of fingerprints
	ClientID []byte            // of the session; nil: there was none
}

//go:embed schema.sql
var schema string

// Open opens the database at path, and creates it if it does not exist.
func Open(path string, limits persistence.Limits) (*Store, error) {
	pragmas := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "locking_mode(EXCLUSIVE)"}}
	db, err := sql.Open("sqlite", "file:"+path+"?"+pragmas.Encode())
	if err != nil {
		return nil, err
	}
	s := &Store{limits: limits.WithDefaults(), db: db, state: state{Epoch: persistence.NextEpoch(0), Seen: map[uint16]bool{}, Prints: map[uint16]uint64{}}}
	s.tx, s.err = db.Begin()
	s.exec(schema)
	var value []byte
	if s.get("SELECT value FROM state", nil, &value) {
		s.fail("read the state", json.Unmarshal(value, &s.state))
	}
	if s.state.Key == nil {
		s.state.Key = make([]byte, 16)
		_, _ = rand.Read(s.state.Key) // never fails
		s.changed = true
	}
	if err := s.commit(); err != nil {
		return nil, &persistence.FolderError{Dir: path, Fix: "check the path and the database", Err: errors.Join(err, db.Close())}
	}
	return s, nil
}

// fail reports whether err is an error. The store has failed then.
func (s *Store) fail(op string, err error) bool {
	if err != nil && s.err == nil {
		s.err = &persistence.FailedError{Op: op, Err: err}
	}
	return err != nil
}

func (s *Store) exec(query string, args ...any) (n int64) {
	if s.err == nil {
		s.changed = true
		if result, err := s.tx.Exec(query, args...); !s.fail(query, err) {
			n, _ = result.RowsAffected()
		}
	}
	return n
}

func (s *Store) get(query string, args []any, values ...any) bool {
	if s.err != nil {
		return false
	}
	err := s.tx.QueryRow(query, args...).Scan(values...)
	return !errors.Is(err, sql.ErrNoRows) && !s.fail(query, err)
}

func (s *Store) update(change func(*state)) error {
	defer s.lock()()
	if s.err == nil {
		change(&s.state)
		s.changed = true
	}
	return s.err
}

func (s *Store) commit() error {
	if !s.changed || s.err != nil {
		return s.err
	}
	value, err := json.Marshal(s.state)
	s.fail("write the state", err)
	s.exec("INSERT OR REPLACE INTO state VALUES (1, ?)", value)
	if s.err == nil && !s.fail("COMMIT", s.tx.Commit()) {
		s.changed, s.durable = false, s.state.Stats.Accepted
		s.tx, err = s.db.Begin()
		s.fail("BEGIN", err)
	}
	return s.err
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

func (s *Store) Enqueue(_ context.Context, m *persistence.Message) (persistence.Ticket, error) {
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
	s.exec("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", st.Stats.Accepted, st.Numbers[m.Priority], m.Priority,
		m.ID[:], cmp.Or(m.Accepted, s.Now()).UnixMilli(), m.Expires.UnixMilli(), m.OnSessionLost, m.Packet)
	st.Stats.Pending++
	st.Stats.PendingOf[m.Priority]++
	st.Stats.PendingBytes += int64(len(m.Packet))
	return persistence.Ticket{Seq: st.Stats.Accepted}, s.err
}

func (s *Store) Wait(_ context.Context, t persistence.Ticket) error {
	defer s.lock()()
	if t.Seq > s.durable {
		return s.commit()
	}
	return nil
}

func (s *Store) Next(c *persistence.Cursor, e *persistence.Entry) (found bool, err error) {
	defer s.lock()()
	for p := persistence.Priorities - 1; p >= 0 && !found; p-- {
		found = s.read(e, "deferral IS NULL AND priority = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT 1", p, int64(min(c[p], s.durable)), s.durable)
	}
	return found, s.err
}

func (s *Store) Get(seq uint64, e *persistence.Entry) (found bool, err error) {
	defer s.lock()()
	found = seq <= s.durable && s.read(e, "seq = ?", seq)
	return found, s.err
}

// read sets e to the message for which a condition holds.
func (s *Store) read(e *persistence.Entry, condition string, args ...any) bool {
	var id, deferral []byte
	var accepted, expires int64
	if !s.get("SELECT * FROM message WHERE "+condition, args, &e.Seq, &e.Number, &e.Priority, &id, &accepted, &expires, &e.OnSessionLost, &e.Packet, &deferral) {
		return false
	}
	e.ID, e.Accepted, e.Expires = [16]byte(id), time.UnixMilli(accepted), time.UnixMilli(expires) // zero stays zero
	e.Released = slices.ContainsFunc(s.state.Released, func(p persistence.Position) bool { return p.Seq == e.Seq })
	e.Deferral = persistence.Deferral{}
	return deferral == nil || !s.fail("read a deferral", json.Unmarshal(deferral, &e.Deferral))
}

func (s *Store) First(p persistence.Priority) (number uint64) {
	defer s.lock()()
	s.get("SELECT number FROM message WHERE deferral IS NULL AND priority = ? ORDER BY seq LIMIT 1", []any{p}, &number)
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
			s.state.Released = append(s.state.Released, e.Position())
		}
	})
}

func (s *Store) Defer(seq uint64, d persistence.Deferral) error {
	if !d.Valid() {
		return persistence.ErrDeferral
	}
	return s.pending(seq, func(e *persistence.Entry) {
		if value, err := json.Marshal(d); !s.fail("encode a deferral", err) && !e.Released {
			s.exec("UPDATE message SET deferral = ? WHERE seq = ?", value, seq)
		}
	})
}

func (s *Store) Deferred() (list []persistence.Deferred) {
	defer s.lock()()
	for e := (persistence.Entry{}); s.read(&e, "deferral IS NOT NULL AND seq > ? ORDER BY seq LIMIT 1", e.Seq); {
		list = append(list, persistence.Deferred{Seq: e.Seq, Deferral: e.Deferral})
	}
	return list
}

func (s *Store) Done(seq uint64, r persistence.Result) error {
	if !r.Kind.Valid() {
		return persistence.ErrUnknownResult
	}
	return s.pending(seq, func(e *persistence.Entry) {
		s.exec("DELETE FROM message WHERE seq = ?", seq)
		s.state.Released = slices.DeleteFunc(s.state.Released, func(p persistence.Position) bool { return p.Seq == seq })
		stats := &s.state.Stats
		stats.Pending--
		stats.PendingOf[e.Priority]--
		stats.PendingBytes -= int64(len(e.Packet))
		stats.Ended(r.Kind, 1)
	})
}

// pending calls change if the message is pending.
func (s *Store) pending(seq uint64, change func(*persistence.Entry)) error {
	defer s.lock()()
	if seq == 0 || seq > s.state.Stats.Accepted {
		return persistence.ErrUnknownSequence
	}
	if e := new(persistence.Entry); s.read(e, "seq = ?", seq) {
		change(e)
		s.changed = true
	}
	return s.err
}

func (s *Store) Seen(id uint16, fingerprint uint64) error {
	return s.identifier(id, func(st *state) { st.Seen[id], st.Prints[id] = true, fingerprint })
}

func (s *Store) Cleared(id uint16) error {
	return s.identifier(id, func(st *state) { delete(st.Seen, id); delete(st.Prints, id) })
}

func (s *Store) identifier(id uint16, change func(*state)) error {
	if id == 0 {
		return persistence.ErrPacketID
	}
	return s.update(change)
}

func (s *Store) SeenIDs() map[uint16]uint64 {
	defer s.lock()()
	seen := map[uint16]uint64{}
	for id := range s.state.Seen {
		seen[id] = s.state.Prints[id] // 0: an earlier release wrote the database
	}
	return seen
}

func (s *Store) ResetSession(clientID string) error {
	if len(clientID) > 65_535 {
		return persistence.ErrClientID
	}
	return cmp.Or(s.update(func(st *state) {
		s.exec("UPDATE message SET deferral = json_set(deferral, '$.PacketID', 0) WHERE deferral IS NOT NULL")
		st.ClientID, st.Seen, st.Prints = append([]byte{}, clientID...), map[uint16]bool{}, map[uint16]uint64{}
		st.Released, st.Sent = nil, [4]uint64{}
	}), s.Sync())
}

func (s *Store) Stream(name string) (id uint32, last uint64, err error) {
	if name == "" || len(name) > 1024 {
		return 0, 0, persistence.ErrStreamName
	}
	defer s.lock()()
	s.exec("INSERT OR IGNORE INTO stream (name, last) VALUES (?, 0)", []byte(name))
	s.get("SELECT id, last FROM stream WHERE name = ?", []any{[]byte(name)}, &id, &last)
	if limit := s.limits.MaxStreams; int(id) > limit { // IDs are 1, 2, 3…
		s.exec("DELETE FROM stream WHERE id = ?", id)
		return 0, 0, cmp.Or[error](s.err, &persistence.FullError{Limit: "MaxStreams", Max: int64(limit)})
	}
	return id, last, s.err
}

func (s *Store) Session() (string, bool)            { id := s.snapshot().ClientID; return string(id), id != nil }
func (s *Store) Sent(p persistence.Priority) uint64 { return s.snapshot().Sent[min(p, 3)] }
func (s *Store) Stats() persistence.Stats           { return s.snapshot().Stats }
func (s *Store) LastSeq() uint64                    { return s.snapshot().Stats.Accepted }
func (s *Store) Epoch() uint64                      { return s.snapshot().Epoch }
func (s *Store) Now() time.Time                     { return time.Now() }
func (s *Store) FingerprintKey() [16]byte           { return [16]byte(s.snapshot().Key) }
func (s *Store) Sync() error                        { defer s.lock()(); return s.commit() }
func (s *Store) lock() (unlock func())              { s.mu.Lock(); return s.mu.Unlock }
func (s *Store) snapshot() state                    { defer s.lock()(); return s.state }
func (s *Store) Released() []persistence.Position {
	defer s.lock()()
	return slices.Clone(s.state.Released)
}

package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
)

// numbered is a message whose packet says its sequence.
func numbered(seq uint64, size int) *Message {
	m := &Message{Packet: bytes.Repeat([]byte{byte(seq)}, max(size, 8))}
	binary.BigEndian.PutUint64(m.Packet, seq)
	binary.BigEndian.PutUint64(m.ID[:], seq)
	return m
}

// contents drains l and fails when a message came back changed or out of order.
func contents(t *testing.T, l *Log) (seqs, released []uint64) {
	t.Helper()
	var e Entry
	for {
		after := e.Seq
		ok, err := l.Next(&Cursor{after}, &e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		want := numbered(e.Seq, len(e.Packet))
		if e.Seq <= after || !bytes.Equal(e.Packet, want.Packet) || e.ID != want.ID {
			t.Fatalf("after %d came %d, or it was changed", after, e.Seq)
		}
		seqs = append(seqs, e.Seq)
		if e.Released {
			released = append(released, e.Seq)
		}
	}
	s := l.Stats()
	if s.Accepted != s.Acked+s.Refused+s.Expired+s.Dropped+s.Pending || s.Pending != uint64(len(seqs)) {
		t.Fatalf("the sum does not hold: %+v, %d messages", s, len(seqs))
	}
	return seqs, released
}

func open(t *testing.T, fsys FS, o Options) *Log {
	t.Helper()
	o.FS = fsys
	l, err := Open("log", o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// told is what the store has confirmed to the program.
type told struct {
	accepted          []uint64 // Append returned nil
	done, mayBeDone   map[uint64]bool
	released          map[uint64]bool // and synced
	seen              map[uint16]bool
	mayBeSeen         map[uint16]bool
	lastStream, boots uint64
}

// workload uses a log until something fails, and opens it again now and then.
func workload(fsys FS, o Options, seed uint64) *told {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := &told{done: map[uint64]bool{}, mayBeDone: map[uint64]bool{}, released: map[uint64]bool{}, seen: map[uint16]bool{}, mayBeSeen: map[uint16]bool{}}
	o.FS = fsys
	for range 3 {
		l, err := Open("log", o)
		if err != nil {
			return w
		}
		w.boots = l.Boot()
		id, _, err := l.Stream("s")
		var fresh []uint64 // released and not synced
		for i := 0; i < 40 && err == nil; i++ {
			switch p := rnd.IntN(10); {
			case p < 5:
				m := numbered(l.LastSeq()+1, rnd.IntN(600))
				m.Stream, m.StreamSeq = id, m.seqOf()
				var seq uint64
				if seq, err = l.Append(m); err == nil {
					w.accepted = append(w.accepted, seq)
					w.lastStream = seq
				}
			case p < 8 && len(w.accepted) > 0:
				for _, seq := range w.accepted { // the oldest one
					if !w.mayBeDone[seq] {
						w.mayBeDone[seq] = true
						err = l.Done(seq, Outcome{Kind: Acked})
						break
					}
				}
			case p < 9:
				if n := len(w.accepted); n > 0 {
					seq := w.accepted[rnd.IntN(n)]
					err = l.Release(seq)
					fresh = append(fresh, seq)
				}
				seen := uint16(1 + rnd.IntN(50))
				w.mayBeSeen[seen] = true
				err = errors.Join(err, l.Seen(seen))
				if err == nil {
					if err = l.Sync(); err == nil {
						w.seen[seen] = true
						for _, seq := range fresh {
							w.released[seq] = true
						}
						for seq := range w.mayBeDone {
							w.done[seq] = true
						}
					}
				}
			}
		}
		if l.Close() == nil {
			for seq := range w.mayBeDone {
				w.done[seq] = true
			}
		}
	}
	return w
}

func (m *Message) seqOf() uint64 { return binary.BigEndian.Uint64(m.Packet) }

// check opens what is left and compares it with what was promised.
func (w *told) check(t *testing.T, fsys *memFS, o Options) {
	t.Helper()
	o.OnCorruption = func(c Corruption) { t.Logf("reported: %+v", c) }
	l := open(t, fsys, o)
	defer l.Close()
	seqs, released := contents(t, l)
	there := map[uint64]bool{}
	for _, seq := range seqs {
		there[seq] = true
		if w.done[seq] {
			t.Errorf("message %d is back, though its done record was durable", seq)
		}
	}
	for _, seq := range w.accepted {
		if !there[seq] && !w.mayBeDone[seq] {
			t.Errorf("accepted message %d is lost", seq)
		}
	}
	for seq := range w.released {
		if there[seq] && !slices.Contains(released, seq) {
			t.Errorf("message %d is not released any more", seq)
		}
	}
	ids := l.SeenIDs()
	for id := range w.seen {
		if !slices.Contains(ids, id) {
			t.Errorf("identifier %d is forgotten", id)
		}
	}
	for _, id := range ids {
		if !w.mayBeSeen[id] {
			t.Errorf("identifier %d was never seen", id)
		}
	}
	if _, last, err := l.Stream("s"); err != nil || last < w.lastStream {
		t.Errorf("the stream is at %d (%v), it was at %d", last, err, w.lastStream)
	}
	if n := len(w.accepted); n > 0 && l.LastSeq() < w.accepted[n-1] {
		t.Errorf("sequence %d would be used again", w.accepted[n-1])
	}
	if l.Boot() <= w.boots {
		t.Errorf("Boot = %d after %d", l.Boot(), w.boots)
	}
	if s := l.Stats(); s.Corruptions > 0 || s.Lost > 0 {
		t.Errorf("a power cut was taken for damage: %+v", s)
	}
}

// errPower is what every operation answers once the power is off.
var errPower = errors.New("the power is off")

var small = Options{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}

// TestPowerCutAtEachOperation switches off before each operation in turn.
func TestPowerCutAtEachOperation(t *testing.T) {
	for seed := range uint64(6) {
		whole := newMemFS()
		workload(whole, small, seed)
		for at := 1; at <= whole.ops; at++ {
			fsys := newMemFS()
			fsys.fault = func(_, _ string, n int) (int, error) {
				if fsys.ops < at {
					return n, nil
				}
				if fsys.ops == at {
					return n / 2, errPower
				}
				return 0, errPower
			}
			w := workload(fsys, small, seed)
			fsys.fault = nil
			for again := range uint64(3) {
				left := fsys.powerCut(rand.New(rand.NewPCG(seed, again)))
				w.check(t, left, small)
				if t.Failed() {
					t.Fatalf("seed %d, power cut at operation %d of %d, state %d", seed, at, whole.ops, again)
				}
			}
			w.check(t, fsys.killed(), small)
			if t.Failed() {
				t.Fatalf("seed %d, killed at operation %d of %d", seed, at, whole.ops)
			}
		}
	}
}

// TestPowerCutWithoutSync: under the weaker policies a power cut takes the newest
// messages, never one from the middle, and is no damage.
func TestPowerCutWithoutSync(t *testing.T) {
	for _, policy := range []SyncPolicy{SyncInterval, SyncNever} {
		o := small
		o.Sync = policy
		o.Interval = 1 << 40 // nobody's clock but the test's
		for seed := range uint64(4) {
			whole := newMemFS()
			workload(whole, o, seed)
			for at := 1; at <= whole.ops; at++ {
				fsys := newMemFS()
				fsys.fault = func(_, _ string, n int) (int, error) {
					if fsys.ops < at {
						return n, nil
					}
					return 0, errPower
				}
				w := workload(fsys, o, seed)
				fsys.fault = nil
				w.check(t, fsys.killed(), o)
				l := open(t, fsys.powerCut(rand.New(rand.NewPCG(seed, 1))), o)
				seqs, _ := contents(t, l)
				for _, seq := range w.accepted {
					if seq <= l.LastSeq() && !slices.Contains(seqs, seq) && !w.mayBeDone[seq] {
						t.Errorf("message %d is missing before %d", seq, l.LastSeq())
					}
				}
				if s := l.Stats(); s.Corruptions > 0 || s.Lost > 0 {
					t.Errorf("a power cut was taken for damage: %+v", s)
				}
				l.Close()
				if t.Failed() {
					t.Fatalf("policy %d, seed %d, power cut at operation %d of %d", policy, seed, at, whole.ops)
				}
			}
		}
	}
}

// TestFailedOperation lets each operation in turn fail once. The log goes on in
// a new segment; after a power cut nothing that it confirmed is missing.
func TestFailedOperation(t *testing.T) {
	for _, policy := range []SyncPolicy{SyncEveryCommit, SyncInterval} {
		o := small
		o.Sync = policy
		o.Interval = 1 << 40 // the test's own commits only
		for _, short := range []bool{false, true} {
			for seed := range uint64(3) {
				whole := newMemFS()
				workload(whole, o, seed)
				for at := 1; at <= whole.ops; at++ {
					fsys := newMemFS()
					op := ""
					fsys.fault = func(o, _ string, n int) (int, error) {
						if fsys.ops != at {
							return n, nil
						}
						op = o
						if short && o == "write" {
							return n / 3, nil // a short write without an error
						}
						return n / 2, syscall.ENOSPC
					}
					w := workload(fsys, o, seed)
					fsys.fault = nil
					w.check(t, fsys.killed(), o)
					if policy == SyncEveryCommit {
						w.check(t, fsys.powerCut(rand.New(rand.NewPCG(seed, 1))), o)
					}
					if t.Failed() {
						t.Fatalf("policy %d, seed %d, %s failed as operation %d of %d", policy, seed, op, at, whole.ops)
					}
				}
			}
		}
	}
}

// TestFailsAfterTheSecondFailure: one failure is survived, two are not, and the
// error says so, and the log is usable again after reopening.
func TestFailsAfterTheSecondFailure(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			fsys := newMemFS()
			l := open(t, fsys, Options{})
			if _, err := l.Append(numbered(1, 10)); err != nil {
				t.Fatal(err)
			}
			failures := 1
			fsys.fault = func(o, _ string, n int) (int, error) {
				if o != op || failures == 0 {
					return n, nil
				}
				failures--
				return 0, syscall.EIO
			}
			if seq, err := l.Append(numbered(2, 10)); err != nil || seq != 2 {
				t.Fatalf("one failure: Append = %d, %v", seq, err)
			}
			if s := l.Stats(); s.Segments != 2 {
				t.Fatalf("after a failure there are %d segments, want a new one", s.Segments)
			}
			failures = 2
			_, err := l.Append(numbered(3, 10))
			var failed *FailedError
			if !errors.Is(err, ErrFailed) || !errors.As(err, &failed) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("two failures: %v, want ErrFailed because of EIO", err)
			}
			_, enqueue := l.Enqueue(numbered(3, 10))
			_, next := l.Next(&Cursor{0}, new(Entry))
			for i, err := range []error{enqueue, next, l.Release(1), l.Done(1, Outcome{Kind: Acked}), l.Seen(1), l.Sync(), l.ResetSession()} {
				if !errors.Is(err, ErrFailed) {
					t.Errorf("method %d of the failed log: %v", i, err)
				}
			}
			if err := l.Close(); !errors.Is(err, ErrFailed) {
				t.Errorf("Close of the failed log: %v", err)
			}
			fsys = fsys.powerCut(rand.New(rand.NewPCG(1, 1)))
			l = open(t, fsys, Options{})
			defer l.Close()
			if seqs, _ := contents(t, l); len(seqs) < 2 || seqs[0] != 1 || seqs[1] != 2 {
				t.Fatalf("after reopening there are %v", seqs)
			}
		})
	}
}

// TestRemovalFails: what cannot be removed is tried again, and does no harm.
func TestRemovalFails(t *testing.T) {
	fsys := newMemFS()
	fsys.fault = func(op, _ string, n int) (int, error) {
		if op == "remove" {
			return 0, fmt.Errorf("in use: %w", syscall.EBUSY)
		}
		return n, nil
	}
	l := open(t, fsys, small)
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := l.Append(numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
		if err := l.Done(seq, Outcome{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.Stats(); s.Segments < 10 {
		t.Fatalf("%d segments, though none can be removed", s.Segments)
	}
	fsys.fault = nil
	if _, err := l.Append(numbered(101, 500)); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Segments > 2 || s.DiskBytes > 3*small.SegmentBytes {
		t.Fatalf("not removed: %+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRemovalWhileReading: Next has a segment open when its last message ends.
func TestRemovalWhileReading(t *testing.T) {
	l := open(t, newMemFS(), small)
	defer l.Close()
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := l.Append(numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
	}
	var e Entry
	for range 100 {
		if ok, err := l.Next(&Cursor{0}, &e); !ok || err != nil {
			t.Fatal(ok, err)
		}
		before := l.Stats().Segments
		if err := l.Done(e.Seq, Outcome{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
		last := e.Seq == l.segments[0].end()-1
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if last && before > 3 && l.Stats().Segments >= before {
			t.Fatalf("the segment that ended with %d is still there", e.Seq)
		}
	}
}

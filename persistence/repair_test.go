package persistence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
)

// Tests for defects that a review has found.

// TestMaxDiskBytes_NothingPending checks that, when MaxDiskBytes is reached and all messages are
// done, the done records are made durable, so that segments can be removed.
func TestMaxDiskBytes_NothingPending(t *testing.T) {
	for _, sync := range []SyncPolicy{SyncEveryCommit, SyncInterval, SyncNever} {
		for leave := range uint64(2) {
			l := open(t, newMemFS(), with(small, func(o *Options) { o.Limits.MaxDiskBytes, o.Sync, o.Interval = 32<<10, sync, time.Hour }))
			var err error
			for seq := uint64(1); err == nil; seq++ {
				_, err = Append(l, numbered(seq, 500))
			}
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			for seq := range l.LastSeq() - leave {
				if err := l.Done(seq+1, Result{Kind: Acked}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Append(l, numbered(l.LastSeq()+1, 500)); err != nil {
				t.Fatalf("policy %d, %d pending: %v", sync, leave, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCompaction_StopsAfterOneRound checks pending messages that take more space than estimated,
// because of long keys or many streams. Compaction must stop after one round.
func TestCompaction_StopsAfterOneRound(t *testing.T) {
	for _, c := range []struct {
		name string
		fill func(l *Log) error
	}{
		{"keys", func(l *Log) (err error) {
			for seq := uint64(1); seq <= 200 && err == nil; seq++ {
				m := numbered(seq, 10)
				m.Key = fmt.Sprint(seq, strings.Repeat("k", 900))
				_, err = Append(l, m)
			}
			return err
		}},
		{"streams", func(l *Log) (err error) {
			for n := 0; n < 500 && err == nil; n++ {
				_, _, err = l.Stream(fmt.Sprint(n, strings.Repeat("s", 90)))
			}
			for seq := uint64(1); seq <= 60 && err == nil; seq++ {
				if _, err = Append(l, numbered(seq, 400)); err == nil && seq > 10 {
					err = l.Done(seq, Result{Kind: Acked})
				}
			}
			return err
		}},
	} {
		l := open(t, newMemFS(), small)
		if err := c.fill(l); err != nil {
			t.Fatal(err)
		}
		for range 20 { // each commit may start a compaction
			if err := errors.Join(l.Seen(1, 7), l.Cleared(1), l.Sync()); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil { // waits for the compaction
			t.Fatal(err)
		}
		if s := l.Stats(); s.Moved > 3*s.Accepted {
			t.Errorf("%s: %d messages were moved %d times", c.name, s.Accepted, s.Moved)
		}
	}
}

// TestReceipts_LostOnFullDisk checks that, on a full disk, an ended segment is removed although its
// receipts cannot be written.
func TestReceipts_LostOnFullDisk(t *testing.T) {
	fsys := newMemFS()
	l := open(t, fsys, with(small, func(o *Options) { o.Retention.MaxReceipts = 1000 }))
	defer l.Close()
	fsys.setFault(func(op, name string, n int) (int, error) {
		if op == "write" && strings.HasSuffix(name, receipts.Suffix) {
			return n / 2, syscall.ENOSPC
		}
		return n, nil
	})
	for seq := uint64(1); seq <= 100; seq++ {
		if _, err := Append(l, numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
		if err := l.Done(seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Segments > 2 || s.ReceiptsLost == 0 || s.Receipts != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestDeadLetters_UncommittedMessage checks that a message that becomes a dead letter before it is
// committed is returned after the commit.
func TestDeadLetters_UncommittedMessage(t *testing.T) {
	for _, s := range []Store{NewMemory(Options{}), open(t, newMemFS(), Options{})} {
		if _, err := s.Enqueue(context.Background(), numbered(1, 50)); err != nil {
			t.Fatal(err)
		}
		if err := s.Done(1, Result{Kind: DeadLettered}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.(DeadLetters).DeadLetters(func(e *Entry, _ byte) bool { return e.Seq == 1 }); err != nil {
				t.Fatal(err)
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSetSent_RejectsTooHighNumber checks that a number that could not be decoded is not written.
func TestSetSent_RejectsTooHighNumber(t *testing.T) {
	m := NewMemory(Options{})
	defer m.Close()
	if err := m.SetSent(Normal, math.MaxUint64); err != ErrUnknownSequence {
		t.Fatal(err)
	}
}

// TestOpen_ManyMovedMessages checks that the time of an opening does not grow with the square of
// the number of moved messages.
func TestOpen_ManyMovedMessages(t *testing.T) {
	m := NewMemory(Options{Files: Files{SegmentBytes: 64 << 10}})
	const messages = 60_000
	for seq := uint64(1); seq <= messages; seq++ {
		msg := numbered(seq, 20)
		msg.Priority = Urgent
		if _, err := m.Enqueue(context.Background(), msg); err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(1); seq <= messages; seq++ {
		if seq%4 != 0 {
			if err := m.Done(seq, Result{Kind: Acked}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		m = m.Reopen()
	}
	defer m.Close()
	if s := m.Stats(); s.PendingOf[Urgent] != messages/4 {
		t.Fatalf("%+v", s)
	}
	var c Cursor
	var e Entry
	for want := uint64(4); want <= messages; want += 4 {
		if ok, err := m.Next(&c, &e); !ok || err != nil || e.Seq != want || e.Number != want {
			t.Fatal(ok, err, e.Seq, want)
		}
		c.Pass(&e)
	}
}

// TestKeys_RemovedAfterMessagesEnd checks that the keys of messages that are done are removed.
func TestKeys_RemovedAfterMessagesEnd(t *testing.T) {
	m := NewMemory(Options{Files: Files{SegmentBytes: 64 << 10}})
	defer m.Close()
	for seq := uint64(1); seq <= 20_000; seq++ {
		msg := numbered(seq, 20)
		msg.Key = fmt.Sprint(seq)
		if _, err := Append(m, msg); err != nil {
			t.Fatal(err)
		}
		if err := m.Done(seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	var c Cursor
	if ok, err := m.Next(&c, new(Entry)); ok || err != nil {
		t.Fatal(ok, err)
	}
	kept := 0
	for seq := range 20_000 {
		if m.state.ledger.Keys.Newest(fmt.Sprint(seq+1)) != 0 {
			kept++
		}
	}
	if kept > 2048 {
		t.Errorf("%d keys are kept", kept)
	}
}

// TestMaxAge_FarFuture checks that the expiry of each accepted message can be read back.
func TestMaxAge_FarFuture(t *testing.T) {
	m := NewMemory(Options{Limits: Limits{MaxAge: time.Hour}})
	defer m.Close()
	if _, err := Append(m, &Message{Accepted: time.Unix(1<<60, 0)}); err != nil {
		t.Fatal(err)
	}
	var c Cursor
	if ok, err := m.Next(&c, new(Entry)); !ok || err != nil {
		t.Fatal(ok, err)
	}
}

// TestNow_IgnoresMessageAccepted checks that Message.Accepted does not affect the clock, because
// the caller may choose any time.
func TestNow_IgnoresMessageAccepted(t *testing.T) {
	m := NewMemory(Options{})
	begin := m.Now()
	if _, err := Append(m, &Message{Accepted: begin.Add(300 * 24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	m = m.Reopen()
	defer m.Close()
	if ahead := m.Now().Sub(begin); ahead > time.Hour {
		t.Errorf("the clock is %v ahead", ahead)
	}
}

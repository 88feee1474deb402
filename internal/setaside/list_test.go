package setaside

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
)

func open(t *testing.T, dir string, limits persistence.Limits) *List {
	t.Helper()
	l, err := New(dir, persistence.Options{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

var at = time.UnixMilli(1_700_000_000_123)

func sample(payload string) *Entry {
	return &Entry{Received: at, At: at.Add(time.Second), Filter: "a/+", Err: "no", Attempts: 3, Packet: []byte(payload)}
}

func TestList_KeepsEntriesAcrossRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "received")
	l := open(t, dir, persistence.Limits{})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the folder exists before the first entry")
	}
	for _, p := range []string{"1", "2", "3"} {
		if _, err := l.Add(sample(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Remove(2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Remove(2), l.Remove(99), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(sample("4")); err == nil {
		t.Error("an entry was added to a closed list")
	}
	l = open(t, dir, persistence.Limits{})
	ids := l.IDs()
	if n, size := l.Size(); n != 2 || size == 0 || len(ids) != 2 || ids[0] != 1 || ids[1] != 3 {
		t.Errorf("%v, %d bytes in %d entries", ids, size, n)
	}
	want := sample("3")
	got, err := l.Get(3)
	if err != nil || got.ID != 3 || !got.Received.Equal(at) || !got.At.Equal(want.At) || got.Filter != "a/+" || got.Err != "no" || got.Attempts != 3 || string(got.Packet) != "3" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := l.Get(2); err != ErrUnknown {
		t.Error(err)
	}
}

func TestList_RefusesWhenFull(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x"), persistence.Limits{MaxMessages: 1})
	if _, err := l.Add(sample("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(sample("2")); err != ErrFull {
		t.Errorf("got %v, want ErrFull", err)
	}
	if err := l.Remove(1); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(sample("2")); err != nil {
		t.Error(err)
	}
}

func TestList_RedeliversAnEntryOnce(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x"), persistence.Limits{})
	id, err := l.Add(sample("1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Take(id)); err != nil {
		t.Fatal(err)
	}
	if err := l.Take(id); err != ErrBusy {
		t.Errorf("got %v, want ErrBusy", err)
	}
	l.Keep(id)
	if err := l.Take(id); err != nil {
		t.Error(err)
	}
	if err := l.Take(99); err != ErrUnknown {
		t.Errorf("got %v, want ErrUnknown", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(sample("payload")))
	f.Add(encode(&Entry{Err: strings.Repeat("ä", MaxErr)}))
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(encode(e))
		if err != nil || !bytes.Equal(again.Packet, e.Packet) || again.Filter != e.Filter || again.Attempts != e.Attempts || len(e.Err) <= MaxErr && again.Err != e.Err || !again.At.Equal(e.At) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}

// An outage of the disk is temporary. An entry whose Add has failed is not in the list, not even
// after the list is opened again.
func TestList_RecoversFromAnOutage(t *testing.T) {
	disk := faultfs.New()
	recovered := make(chan struct{}, 1)
	o := persistence.Options{FS: disk, OnDegraded: func(e *persistence.DegradedError) {
		if e == nil {
			recovered <- struct{}{}
		}
	}}
	l, err := New("received", o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(sample("1")); err != nil {
		t.Fatal(err)
	}
	disk.SetFault(func(op faultfs.Op) (int, error) {
		if op.Kind == faultfs.Sync {
			return 0, syscall.EIO
		}
		return op.Len, nil
	})
	for range 2 { // the first one fails during the write, the second one at once
		if _, err := l.Add(sample("2")); !errors.Is(err, persistence.ErrDegraded) {
			t.Fatalf("the entry was added without a sync: %v", err)
		}
	}
	disk.SetFault(nil)
	<-recovered
	id, err := l.Add(sample("3"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if ids := l.IDs(); len(ids) != 2 || ids[0] != 1 || ids[1] != id {
			t.Errorf("%v are listed", ids)
		}
		if n, _ := l.Size(); n != 2 {
			t.Errorf("%d entries are in the log", n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if l, err = New("received", o); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

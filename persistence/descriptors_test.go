package persistence

import (
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// handles is a file system that counts open files.
type handles struct {
	fsys.FS
	mu        sync.Mutex
	now, most int
}

func (h *handles) add(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now += n
	h.most = max(h.most, h.now)
}

func (h *handles) opened(f fsys.File, err error) (fsys.File, error) {
	if err != nil {
		return nil, err
	}
	h.add(1)
	return &handle{File: f, h: h}, nil
}

func (h *handles) Create(name string) (fsys.File, error) { return h.opened(h.FS.Create(name)) }
func (h *handles) Open(name string) (fsys.File, error)   { return h.opened(h.FS.Open(name)) }

type handle struct {
	fsys.File
	h    *handles
	once sync.Once
}

func (f *handle) Close() error {
	f.once.Do(func() { f.h.add(-1) })
	return f.File.Close()
}

// TestOpen_NeedsFewDescriptors opens, reads, damages and drains a log of 3,000 segments.
func TestOpen_NeedsFewDescriptors(t *testing.T) {
	const n, most = 3000, 10
	disk := newMemFS()
	h := &handles{FS: disk.FS}
	o := with(small, func(o *Options) { o.Sync, o.Retention.MaxReceipts, o.Limits.MaxDiskBytes = SyncNever, 10*n, 1<<30 })
	l := open(t, h, o)
	for seq := uint64(1); seq <= n; seq++ {
		if _, err := Append(l, numbered(seq, 3900)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if segments := l.Stats().Segments; segments < n {
		t.Fatalf("%d segments", segments)
	}
	for _, name := range []string{"log/0000000000000100.mlog", "log/0000000000000200.mlog"} {
		disk.flip(t, name, 2000, 1)
	}
	l = open(t, h, o)
	var e Entry
	var c Cursor
	read := 0
	for {
		ok, err := l.Next(&c, &e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		c.Pass(&e)
		read++
		if err := l.Done(e.Seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil || read != n-2 {
		t.Errorf("%d messages were read, %v", read, err)
	}
	(&program{l: l}).settle()
	if _, ok, err := l.Receipt(numbered(7, 8).ID); !ok || err != nil {
		t.Errorf("no receipt of message 7: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, h, o) // with thousands of receipts
	if r := l.Stats().Receipts; r < n-200 {
		t.Errorf("%d receipts", r)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if h.most > most || h.now != 0 {
		t.Errorf("%d files were open at the same time, want at most %d; %d are open at the end", h.most, most, h.now)
	}
}

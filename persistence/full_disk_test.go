package persistence

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/ostest"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// partition is a file system with limited space.
type partition struct {
	fsys.FS
	mu    sync.Mutex
	free  int64
	sizes map[string]*int64
}

func (p *partition) Create(name string) (fsys.File, error) {
	f, err := p.FS.Create(name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sizes[name] = new(int64)
	return &partitionFile{f, p, p.sizes[name]}, nil
}

func (p *partition) Remove(name string) error {
	err := p.FS.Remove(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.free += *p.sizes[name]
		delete(p.sizes, name)
	}
	return err
}

func (p *partition) Rename(from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sizes[to] = p.sizes[from]
	delete(p.sizes, from)
	return p.FS.Rename(from, to)
}

func (p *partition) Open(name string) (fsys.File, error) {
	f, err := p.FS.Open(name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &partitionFile{f, p, p.sizes[name]}, nil
}

// steal uses all free space, like another process, and returns how much that was.
func (p *partition) steal() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, p.free = p.free, 0
	return n
}

type partitionFile struct {
	fsys.File
	p    *partition
	size *int64
}

func (f *partitionFile) WriteAt(b []byte, off int64) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	more := max(off+int64(len(b))-*f.size, 0)
	if more > f.p.free {
		return 0, syscall.ENOSPC
	}
	f.p.free -= more
	*f.size += more
	return f.File.WriteAt(b, off)
}

func (f *partitionFile) Truncate(size int64) error {
	err := f.File.Truncate(size)
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if less := *f.size - size; err == nil && less > 0 {
		f.p.free += less
		*f.size = size
	}
	return err
}

var onFullDisk = Options{Limits: Limits{MaxDiskBytes: 64 << 20}, Files: Files{SegmentBytes: 256 << 10, BufferBytes: 16 << 10, PreallocateBytes: 16 << 10}}

// TestFullDisk fills a disk, lets another process use the rest, and drains the log. The log accepts
// messages again when there is room.
func TestFullDisk(t *testing.T) {
	disk := &partition{FS: newMemFS().FS, free: 4 << 20, sizes: map[string]*int64{}}
	o := onFullDisk
	o.FS = disk
	var stolen int64
	drainsFullDisk(t, "log", o, func() { stolen = disk.steal() }, func() {
		disk.mu.Lock()
		disk.free += stolen
		disk.mu.Unlock()
	})
}

// TestFullDisk_OfTheSystem is TestFullDisk on a file system of the operating system.
func TestFullDisk_OfTheSystem(t *testing.T) {
	dir := ostest.SmallDisk(t)
	var free func()
	drainsFullDisk(t, filepath.Join(dir, "log"), onFullDisk, func() { free = ostest.FillDisk(t, dir) }, func() { free() })
}

// drainsFullDisk tests a log on a disk of 4 MiB. fill uses the remaining space, and free releases it.
func drainsFullDisk(t *testing.T, dir string, o Options, fill, free func()) {
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted := uint64(0)
	var refused error
	for refused == nil && accepted < 100_000 {
		if _, refused = Append(l, numbered(accepted+1, 200)); refused == nil {
			accepted++
		}
	}
	if !errors.Is(refused, ErrDegraded) || !errors.Is(refused, syscall.ENOSPC) || accepted < 5000 {
		t.Fatalf("after %d messages: %v", accepted, refused)
	}
	fill()
	begin := time.Now()
	eventually := func(what string, try func() error) {
		t.Helper()
		for limit := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			err := try()
			if err == nil {
				return
			}
			if !errors.Is(err, ErrDegraded) || time.Now().After(limit) {
				t.Fatalf("%s, of %d messages, %d pending: %v; %+v", what, accepted, l.Stats().Pending, err, l.Stats())
			}
		}
	}
	var e Entry
	seen, cursor := uint64(0), Cursor{}
	for {
		ok, err := l.Next(&cursor, &e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		cursor[Normal] = e.Seq
		seen++
		if e.Seq%50 == 0 { // QoS 2
			eventually("sent", func() error { return l.SetSent(Normal, e.Number) })
			eventually("released", func() error { return errors.Join(l.Release(e.Seq), l.Sync()) })
		}
		if err := l.Done(e.Seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	eventually("ended", l.Sync)
	for limit := time.Now().Add(time.Minute); l.Stats().Segments > 3; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("segments are not removed: %+v", l.Stats())
		}
	}
	if seen != accepted && seen != accepted+1 { // the outcome of the last message is unknown
		t.Errorf("%d messages, %d were accepted", seen, accepted)
	}
	t.Logf("%d messages were sent from a full disk in %v", seen, time.Since(begin))
	free()
	eventually("Append", func() error { _, err := Append(l, numbered(l.LastSeq()+1, 200)); return err })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Pending != 1 || s.Lost+s.Corruptions != 0 {
		t.Errorf("opened again: %+v", s)
	}
}

// Another process removes the reserve, and the disk becomes full. The log continues when there is
// room.
func TestFullDisk_WithoutTheReserve(t *testing.T) {
	disk := &partition{FS: newMemFS().FS, free: 2 << 20, sizes: map[string]*int64{}}
	o := onFullDisk
	o.FS = disk
	l, err := Open("log", o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	last := uint64(0)
	for l.Stats().Segments < 4 {
		last = appendOne(t, l, last+1)
	}
	if err := disk.Remove(filepath.Join("log", recovery.ReserveName)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = Append(l, numbered(last+1, 500))
		last++
	}
	if !errors.Is(err, ErrDegraded) {
		t.Fatalf("Append returned %v", err)
	}
	disk.mu.Lock()
	disk.free += 1 << 20
	disk.mu.Unlock()
	for limit := time.Now().Add(10 * time.Second); l.Stats().Degraded; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the outage has not ended")
		}
	}
	if last = appendOne(t, l, last+1); l.Stats().Pending != last {
		t.Errorf("%d messages are pending, want %d", l.Stats().Pending, last)
	}
}

func appendOne(t *testing.T, s Store, seq uint64) uint64 {
	t.Helper()
	seq, err := Append(s, numbered(seq, 500))
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// Under SyncNever, a failed fsync may lose more bytes than the buffers contain. The log reads them
// back from the file and writes them again. While the file does not contain them, the log is
// degraded.
func TestSyncNever_RewritesAfterFailedSync(t *testing.T) {
	for name, unreadable := range map[string]bool{"readable": false, "unreadable at first": true} {
		t.Run(name, func(t *testing.T) {
			fsys := newMemFS()
			l := open(t, fsys, with(small, func(o *Options) { o.Sync, o.Files.SegmentBytes = SyncNever, 64<<10 }))
			last := uint64(0)
			for l.Stats().DiskBytes < 50<<10 {
				last = appendOne(t, l, last+1)
			}
			var broken atomic.Bool
			broken.Store(true)
			fsys.SetFault(func(op faultfs.Op) (int, error) {
				if broken.Load() && (op.Kind == faultfs.Sync || op.Kind == faultfs.Read && unreadable) {
					return 0, syscall.EIO
				}
				return op.Len, nil
			})
			var err error
			for ; err == nil; last++ { // includes the last message: it is written when the outage ends
				_, err = Append(l, numbered(last+1, 500))
			}
			if !errors.Is(err, ErrDegraded) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("Append returned %v", err)
			}
			broken.Store(false)
			for limit := time.Now().Add(10 * time.Second); l.Stats().Degraded; time.Sleep(time.Millisecond) {
				if time.Now().After(limit) {
					t.Fatal("the outage has not ended")
				}
			}
			last = appendOne(t, l, last+1)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, fsys.powerCut(rand.New(rand.NewPCG(1, 1))), small)
			defer l.Close()
			if got := l.Stats().Pending; got != last {
				t.Errorf("after a power failure %d messages are left, want %d", got, last)
			}
		})
	}
}

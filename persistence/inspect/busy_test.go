package inspect_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// TestOpen_WhileInUse inspects a log while a process uses it. A Folder must show no damage, and all
// messages that were accepted before and have not ended. It must show the same messages later.
func TestOpen_WhileInUse(t *testing.T) {
	dir, o := t.TempDir(), persistence.Options{Files: persistence.Files{SegmentBytes: 32 << 10, BufferBytes: 8 << 10, PreallocateBytes: 8 << 10}}
	l, err := persistence.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var last uint64 // the last accepted message
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for seq := uint64(1); ; seq++ {
			select {
			case <-stop:
				return
			default:
			}
			m := numbered(seq, 300+rnd.IntN(300))
			clear(m.Packet[8:])
			if _, err := persistence.Append(l, m); err != nil {
				t.Error(err)
				return
			}
			if seq > 200 {
				l.Done(seq-200, persistence.Result{Kind: persistence.Acked})
			}
			mu.Lock()
			last = seq
			mu.Unlock()
		}
	})
	for range 60 {
		mu.Lock()
		least := last
		mu.Unlock()
		in, err := inspect.Open(dir, o)
		if err != nil {
			t.Error(err)
			break
		}
		seqs := seqsOf(t, in, inspect.Pending)
		if in.Stats.Corruptions > 0 || len(in.Missing) > 0 || in.LastSeq < least || in.Stats.Pending != uint64(len(seqs)) || in.Stats.Pending > 202 || !in.InUse {
			t.Errorf("at least up to %d: %d pending, %+v", least, len(seqs), in)
		}
		if n := len(seqs); n > 0 && (seqs[n-1] != in.LastSeq || seqs[n-1]-seqs[0] != uint64(n-1)) {
			t.Errorf("pending: %v", seqs)
		}
		in.Close()
		if t.Failed() {
			break
		}
	}
	close(stop)
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// busyFS calls meanwhile after each read.
type busyFS struct {
	fsys.FS
	meanwhile func(end int64)
}

type busyFile struct {
	fsys.File
	meanwhile func(end int64)
}

func (b busyFS) Open(name string) (fsys.File, error) {
	f, err := b.FS.Open(name)
	return busyFile{f, b.meanwhile}, err
}

func (f busyFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	if len(b) > 64<<10 { // reads of records, and not only those that find the end
		f.meanwhile(off + int64(len(b)))
	}
	return n, err
}

// written returns the end of the records in the first segment.
func written(disk *faultfs.FS) int64 {
	return int64(len(bytes.TrimRight(disk.Files()["log/0000000000000001.mlog"], "\x00")))
}

// TestOpen_WhileAppending checks that zeros that become records while the file is read do not count
// as damage.
func TestOpen_WhileAppending(t *testing.T) {
	disk := faultfs.New()
	l := open(t, disk, persistence.Options{Files: persistence.Files{PreallocateBytes: 4 << 20}})
	defer l.Close()
	grow := func(to int64) {
		for written(disk) <= to {
			if _, err := persistence.Append(l, numbered(l.LastSeq()+1, 100<<10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	grow(1 << 20)
	least, grown := l.LastSeq(), 0
	in := look(t, "log", busyFS{disk, func(end int64) {
		if end >= written(disk) && grown < 3 {
			grow(end + 300<<10)
			grown++
		}
	}})
	if grown == 0 || in.Stats.Corruptions > 0 || len(in.Missing) > 0 || in.LastSeq != least || len(seqsOf(t, in, inspect.Pending)) != int(least) {
		t.Fatalf("up to %d, appended %d times: %+v", least, grown, in.Stats)
	}
}

package inspect_test

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// countingFS counts the open files.
type countingFS struct {
	fsys.FS
	now, most *atomic.Int64
}

type countedFile struct {
	fsys.File
	now *atomic.Int64
}

func (c countingFS) Open(name string) (fsys.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	c.most.Store(max(c.most.Load(), c.now.Add(1)))
	return countedFile{f, c.now}, nil
}

func (f countedFile) Close() error {
	f.now.Add(-1)
	return f.File.Close()
}

// TestFolder_NeedsFewDescriptors inspects a log of 500 segments, with few descriptors. The removal
// of a segment meanwhile is reported.
func TestFolder_NeedsFewDescriptors(t *testing.T) {
	const n = 500
	disk := faultfs.New()
	l := open(t, disk, small)
	for seq := uint64(1); seq <= n; seq++ {
		add(t, l, numbered(seq, 3900))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files := countingFS{disk, new(atomic.Int64), new(atomic.Int64)}
	in := look(t, "log", files)
	if got := len(seqsOf(t, in, inspect.Pending)); got != n || len(in.Segments) < n {
		t.Errorf("%d messages in %d segments", got, len(in.Segments))
	}
	if err := disk.Remove(in.Segments[10].File); err != nil {
		t.Fatal(err)
	}
	var unread *persistence.ReadError
	err := in.Messages(inspect.Pending, func(*inspect.Message) bool { return true })
	if !errors.As(err, &unread) || !errors.Is(err, fs.ErrNotExist) || unread.Seq != 11 {
		t.Errorf("a removed segment: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := in.Messages(inspect.Pending, func(*inspect.Message) bool { return true }); err != persistence.ErrClosed {
		t.Errorf("closed: %v", err)
	}
	if files.most.Load() > 10 || files.now.Load() != 0 {
		t.Errorf("%d files were open at the same time, %d at the end", files.most.Load(), files.now.Load())
	}
}

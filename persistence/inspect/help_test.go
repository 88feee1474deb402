package inspect_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

var small = persistence.Options{Files: persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}}

// numbered returns a message whose packet contains its sequence.
func numbered(seq uint64, size int) *persistence.Message {
	m := &persistence.Message{Packet: bytes.Repeat([]byte{byte(seq)}, max(size, 8))}
	binary.BigEndian.PutUint64(m.Packet, seq)
	binary.BigEndian.PutUint64(m.ID[:], seq)
	return m
}

func open(t testing.TB, fs fsys.FS, o persistence.Options) *persistence.Log {
	t.Helper()
	o.FS = fs
	l, err := persistence.Open("log", o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func look(t testing.TB, dir string, fs fsys.FS) *inspect.Folder {
	t.Helper()
	in, err := inspect.Open(dir, persistence.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

func add(t testing.TB, l *persistence.Log, m *persistence.Message) {
	t.Helper()
	if _, err := persistence.Append(l, m); err != nil {
		t.Fatal(err)
	}
}

// seqsOf returns the sequences of the messages that a filter selects.
func seqsOf(t testing.TB, in *inspect.Folder, filter inspect.Filter) (seqs []uint64) {
	t.Helper()
	if err := in.Messages(filter, func(m *inspect.Message) bool {
		seqs = append(seqs, m.Seq)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return seqs
}

// edit returns a file system in which a file has this content, or is missing if data is nil.
func edit(fs *faultfs.FS, name string, data []byte) *faultfs.FS {
	files := fs.Files()
	if files[name] = data; data == nil {
		delete(files, name)
	}
	return faultfs.From(files)
}

// smallLog returns a closed log of one segment with ten messages.
func smallLog(t testing.TB) (fs *faultfs.FS, name string) {
	t.Helper()
	fs = faultfs.New()
	l := open(t, fs, persistence.Options{})
	for seq := uint64(1); seq <= 10; seq++ {
		add(t, l, numbered(seq, 20))
		switch seq {
		case 4:
			l.Done(3, persistence.Result{Kind: persistence.Acked})
			l.Done(4, persistence.Result{Kind: persistence.Refused, Reason: 0x97})
		case 6:
			l.Release(5)
			l.Seen(77, 7)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names := names(fs)
	if len(names) != 1 {
		t.Fatalf("the folder has %v, want one segment", names)
	}
	return fs, names[0]
}

// manySegments returns a closed log of several segments with 60 messages.
func manySegments(t testing.TB) *faultfs.FS {
	t.Helper()
	fs := faultfs.New()
	l := open(t, fs, small)
	for seq := uint64(1); seq <= 60; seq++ {
		m := numbered(seq, 300)
		m.Stream, _, _ = l.Stream("s")
		m.StreamSeq = seq
		add(t, l, m)
		if seq%2 == 0 {
			l.Done(seq, persistence.Result{Kind: persistence.Acked})
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// names returns the paths of the files, ascending.
func names(fs *faultfs.FS) []string { return slices.Sorted(maps.Keys(fs.Files())) }

// workload uses all features of a log and opens it again several times, until an operation fails.
func workload(fs *faultfs.FS, o persistence.Options, rnd *rand.Rand) {
	o.FS = fs
	for range 3 {
		l, err := persistence.Open("log", o)
		if err != nil {
			return
		}
		for range 40 {
			any := 1 + rnd.Uint64N(l.LastSeq()+1)
			switch rnd.IntN(12) {
			case 0:
				err = l.Done(any, persistence.Result{Kind: persistence.Acked + persistence.ResultKind(rnd.IntN(5)), Reason: byte(rnd.IntN(256))})
			case 1:
				err = l.Release(any)
			case 2:
				err = l.Seen(uint16(1+rnd.IntN(9)), 1+rnd.Uint64N(3))
			case 3:
				err = l.Cleared(uint16(1 + rnd.IntN(9)))
			case 4:
				err = l.SetSent(persistence.Priority(rnd.IntN(persistence.Priorities)), rnd.Uint64N(l.LastSeq()+1))
			case 5:
				err = l.Discard(any)
			case 6:
				err = l.Sync()
			case 7:
				if rnd.IntN(5) == 0 {
					err = l.ResetSession(string(rune('a' + rnd.IntN(3))))
				}
			default:
				m := numbered(l.LastSeq()+1, rnd.IntN(400))
				if rnd.IntN(2) == 0 {
					m.Stream, m.StreamSeq, err = l.Stream(string(rune('s' + rnd.IntN(3))))
					m.StreamSeq++
				}
				if rnd.IntN(3) == 0 {
					m.Priority = persistence.Priority(rnd.IntN(persistence.Priorities))
				}
				if rnd.IntN(3) == 0 {
					m.Key = string(rune('k' + rnd.IntN(3)))
				}
				if err == nil {
					_, err = persistence.Append(l, m)
				}
			}
			if err != nil && err != persistence.ErrUnknownSequence {
				return
			}
		}
		if rnd.IntN(2) == 0 {
			_ = l.Close()
		}
		fs.Kill()
	}
}

package persistence

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/ostest"
)

// TestOpen_WithFewDescriptors opens a log of 600 segments in a process that may open 40 files.
func TestOpen_WithFewDescriptors(t *testing.T) {
	dir, child := ostest.InChild(t)
	if !child {
		return
	}
	o := with(small, func(o *Options) { o.Sync = SyncNever })
	ostest.LimitFiles(t, 40)
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= 600; seq++ {
		if _, err := Append(l, numbered(seq, 3900)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	if seqs, _ := contents(t, l); len(seqs) != 600 {
		t.Errorf("%d messages", len(seqs))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files := ostest.ExhaustFiles(t)
	_, err = Open(dir, o)
	if err == nil || !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "RLIMIT_NOFILE = 40 ") {
		t.Errorf("without a descriptor: %v", err)
	}
	files[0].Close()
	if _, err := Open(dir, o); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("with one descriptor: %v", err)
	}
	for _, f := range files {
		f.Close()
	}
	if l, err = Open(dir, o); err != nil { // a failed Open releases its locks
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOutage_OfDescriptors uses up the descriptors of a process that has a log open. The log
// continues to return its messages. When descriptors are available again, it accepts messages and
// has lost none.
func TestOutage_OfDescriptors(t *testing.T) {
	dir, child := ostest.InChild(t)
	if !child {
		return
	}
	ostest.LimitFiles(t, 64)
	o := with(small, func(o *Options) { o.Limits.MaxDiskBytes = 1 << 30 })
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	var accepted []uint64
	add := func() (err error) {
		m := numbered(l.LastSeq()+1, 400)
		ticket, err := Append(l, m)
		if err == nil {
			accepted = append(accepted, ticket)
		}
		return err
	}
	for range 50 {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	await := func(what string, done func() error) {
		t.Helper()
		for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			err := done()
			if err == nil {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	for _, round := range []struct {
		name string
		heal func(files []*os.File)
	}{
		{"the limit is raised", func([]*os.File) { ostest.LimitFiles(t, 128) }},
		{"files are closed", func(files []*os.File) {
			for _, f := range files {
				f.Close()
			}
		}},
	} {
		files := ostest.ExhaustFiles(t)
		for err = nil; err == nil; err = add() {
		}
		if !errors.Is(err, ErrDegraded) || !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "RLIMIT_NOFILE = ") {
			t.Fatalf("%s: %v", round.name, err)
		}
		begin, cpu := time.Now(), ostest.CPUTime(t)
		refused := 0
		for time.Since(begin) < 3*time.Second {
			if err := add(); !errors.Is(err, ErrDegraded) {
				t.Fatalf("in the outage: %v", err)
			}
			refused++
			time.Sleep(50 * time.Millisecond)
		}
		share := float64(ostest.CPUTime(t)-cpu) / float64(time.Since(begin))
		fmt.Printf("%s: %d refused, %.2f%% CPU while waiting\n", round.name, refused, 100*share)
		if share > 0.05 {
			t.Errorf("%s: %.1f%% of a processor while waiting", round.name, 100*share)
		}
		if err := l.Done(accepted[0], Result{Kind: Acked}); err != nil {
			t.Error(err)
		}
		accepted = accepted[1:]
		round.heal(files)
		await(round.name, add)
		if s := l.Stats(); s.Degraded || s.Lost+uint64(s.Corruptions) > 0 {
			t.Errorf("%s: %+v", round.name, s)
		}
	}
	if s := l.Stats(); s.Outages != 2 {
		t.Errorf("%d outages", s.Outages)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seqs, _ := contents(t, l)
	for _, seq := range accepted {
		if len(seqs) == 0 {
			t.Fatalf("message %d was accepted and is lost", seq)
		}
		for seqs[0] < seq { // a message whose outcome was unknown
			seqs = seqs[1:]
		}
		if seqs[0] != seq {
			t.Fatalf("message %d was accepted and is lost", seq)
		}
		seqs = seqs[1:]
	}
}

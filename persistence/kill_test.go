package persistence

import (
	"bufio"
	"context"
	"errors"
	flags "flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

var crashKills = flags.Int("crash.kills", 30, "how many processes TestKill kills")

// The test binary runs itself as the process that is killed.
const (
	killEnv = "MOORING_PERSISTENCE_KILL_DIR"
	idleEnv = "MOORING_PERSISTENCE_IDLE_DIR"
)

func TestMain(m *testing.M) {
	for env, run := range map[string]func(dir string) error{killEnv: appendUntilKilled, idleEnv: endOneAndIdle} {
		if dir := os.Getenv(env); dir != "" {
			if err := run(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	idleTime = func(fs fsys.FS) time.Duration {
		if m, ok := fs.(*memFS); ok && !m.idle {
			return -1
		}
		return idleAfter
	}
	os.Exit(m.Run())
}

// appendUntilKilled prints the sequence of each accepted message, and ends every second message.
func appendUntilKilled(dir string) error {
	policy := SyncPolicy(os.Getpid()) % (SyncNever + 1) // under every policy, a kill loses nothing
	l, err := Open(dir, Options{Sync: policy, Files: Files{SegmentBytes: 64 << 10, BufferBytes: 8 << 10}})
	if err != nil {
		return err
	}
	var enqueue, out sync.Mutex
	var group sync.WaitGroup
	errs := make(chan error, 4)
	for range cap(errs) {
		group.Go(func() {
			for {
				enqueue.Lock()
				ticket, err := l.Enqueue(context.Background(), numbered(l.LastSeq()+1, 100))
				enqueue.Unlock()
				if err == nil {
					err = l.Wait(context.Background(), ticket)
				}
				if err == nil && ticket.Seq%2 == 0 {
					err = l.Done(ticket.Seq, Result{Kind: Acked})
				}
				if err != nil {
					errs <- err
					return
				}
				out.Lock()
				fmt.Println(ticket.Seq)
				out.Unlock()
			}
		})
	}
	group.Wait()
	return <-errs
}

// TestKill kills a process that appends messages at random moments, repeatedly with the same
// folder. All messages that the process reported must be found, in order.
func TestKill(t *testing.T) {
	rounds := *crashKills
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	accepted := map[uint64]bool{} // only odd sequences: they are not done
	var highest uint64
	for round := range rounds {
		for _, seq := range runAndKill(t, self, dir) {
			highest = max(highest, seq)
			if seq%2 == 1 {
				accepted[seq] = true
			}
		}
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want := uint64(2 * (round + 1)); l.Boot() != want {
			t.Fatalf("round %d: Boot = %d, want %d", round, l.Boot(), want)
		}
		if l.Renewal() != Continued && fsys.HostOf(fsys.OS).Boot != 0 {
			t.Fatalf("round %d: a kill was treated as a power cut or a copy: %v", round, l.Renewal())
		}
		if l.LastSeq() < highest {
			t.Fatalf("round %d: LastSeq = %d, but %d was accepted", round, l.LastSeq(), highest)
		}
		seqs, _ := contents(t, l)
		there := map[uint64]bool{}
		for _, seq := range seqs {
			there[seq] = true
		}
		for seq := range accepted {
			if !there[seq] {
				t.Fatalf("round %d: accepted message %d is lost", round, seq)
			}
		}
		if s := l.Stats(); s.Corruptions > 0 || s.Lost > 0 {
			t.Fatalf("round %d: a kill was treated as damage: %+v", round, s)
		}
		// End messages, so that the next process removes segments.
		for _, seq := range seqs {
			if err := l.Done(seq, Result{Kind: Acked}); err != nil {
				t.Fatal(err)
			}
			delete(accepted, seq)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if highest < uint64(rounds) {
		t.Fatalf("only %d messages in %d rounds", highest, rounds)
	}
}

// runAndKill returns the sequences that the process reported.
func runAndKill(t *testing.T, self, dir string) (seqs []uint64) {
	t.Helper()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	var kill *time.Timer
	for lines.Scan() {
		if kill == nil { // the process runs: kill it at a random time
			kill = time.AfterFunc(time.Duration(rand.IntN(40_000))*time.Microsecond, func() { cmd.Process.Kill() })
		}
		seq, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			break // the kill interrupted this line
		}
		seqs = append(seqs, seq)
	}
	_, _ = io.Copy(io.Discard, pipe)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the process was not killed but ended: %v", err)
	}
	return seqs
}

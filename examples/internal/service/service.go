// Package service runs an example as an init system would: builds it, starts it,
// reads what it says, sends it a signal, and looks at its exit code.
package service

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long anything may take: a machine may be slow, and a test that
// hangs says nothing.
const patience = 60 * time.Second

// Build compiles the program in the folder of the test.
func Build(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "program.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return program
}

// Service is a process.
type Service struct {
	t     *testing.T
	cmd   *exec.Cmd
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced with each line
	ended chan struct{}
	code  int
}

// Start runs the program. It is killed when the test ends.
func Start(t *testing.T, program string, args ...string) *Service {
	t.Helper()
	s := &Service{t: t, cmd: exec.Command(program, args...), more: make(chan struct{}), ended: make(chan struct{})}
	out, in := io.Pipe()
	s.cmd.Stdout, s.cmd.Stderr = in, in
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for r := bufio.NewScanner(out); r.Scan(); {
			s.mu.Lock()
			s.lines = append(s.lines, r.Text())
			close(s.more)
			s.more = make(chan struct{})
			s.mu.Unlock()
		}
	}()
	go func() {
		var exit *exec.ExitError
		if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = in.Close()
		s.code = s.cmd.ProcessState.ExitCode()
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // or it has ended
		<-s.ended
		if t.Failed() {
			t.Logf("it said:\n%s", s.Output())
		}
	})
	return s
}

// Output is what it has said.
func (s *Service) Output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// Await waits for a line with these words.
func (s *Service) Await(words string) {
	s.t.Helper()
	for limit := time.After(patience); ; {
		s.mu.Lock()
		said, more := strings.Join(s.lines, "\n"), s.more
		s.mu.Unlock()
		if strings.Contains(said, words) {
			return
		}
		select {
		case <-more:
		case <-s.ended:
			s.t.Fatalf("it ended with exit code %d before it said %q", s.code, words)
		case <-limit:
			s.t.Fatalf("it does not say %q", words)
		}
	}
}

// Signal sends a signal.
func (s *Service) Signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// TrySignal sends a signal to a process that may have ended; then there is an error.
func (s *Service) TrySignal(sig os.Signal) error { return s.cmd.Process.Signal(sig) }

// Wait returns the exit code, -1 if a signal ended it, and how long that took.
func (s *Service) Wait() (code int, took time.Duration) {
	s.t.Helper()
	began := time.Now()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatal("it does not end")
	}
	return s.code, time.Since(began)
}

// Package service tests an example program as a service. It builds and starts the program, reads
// its output, sends it signals, and returns its exit code.
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

// timeout is the longest time to wait for output or for the end of the process.
const timeout = 60 * time.Second

// Build compiles the program in the folder of the test.
func Build(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "program.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return program
}

// Service is a running program.
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
		_ = s.cmd.Process.Kill() // fails if the process has ended
		<-s.ended
		if t.Failed() {
			t.Logf("output:\n%s", s.Output())
		}
	})
	return s
}

// Output returns all output so far.
func (s *Service) Output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// Await waits until the output contains the text.
func (s *Service) Await(text string) {
	s.t.Helper()
	for limit := time.After(timeout); ; {
		s.mu.Lock()
		output, more := strings.Join(s.lines, "\n"), s.more
		s.mu.Unlock()
		if strings.Contains(output, text) {
			return
		}
		select {
		case <-more:
		case <-s.ended:
			s.t.Fatalf("the program ended with exit code %d before it printed %q", s.code, text)
		case <-limit:
			s.t.Fatalf("the program does not print %q", text)
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

// TrySignal sends a signal. It returns an error if the process has ended.
func (s *Service) TrySignal(sig os.Signal) error { return s.cmd.Process.Signal(sig) }

// Wait waits for the end of the program. It returns the exit code, or -1 if a signal ended the
// program, and how long Wait took.
func (s *Service) Wait() (code int, took time.Duration) {
	s.t.Helper()
	began := time.Now()
	select {
	case <-s.ended:
	case <-time.After(timeout):
		s.t.Fatal("the program does not end")
	}
	return s.code, time.Since(began)
}

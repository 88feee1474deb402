package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// process is a child process that can be killed and started again. The function onLine receives its
// output. A child process ends when its standard input is closed: stop closes it, and so does the
// end of the main process.
type process struct {
	name    string
	program string // empty: this program
	args    []string
	onLine  func(word, rest string)

	mu     sync.Mutex
	cmd    *exec.Cmd
	stdin  io.Closer
	exited chan struct{}
	err    error
}

func newProcess(name string, onLine func(word, rest string), args ...string) *process {
	return &process{name: name, onLine: onLine, args: append([]string{"-role", name}, args...)}
}

func (p *process) start() error {
	program := p.program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	cmd := exec.Command(program, p.args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.stdin, p.exited, p.err = cmd, stdin, exited, nil
	p.mu.Unlock()
	go func() {
		defer close(exited)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			p.onLine(word, rest)
		}
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		p.onLine("exit", "")
	}()
	return nil
}

// kill sends SIGKILL and waits for the end of the process.
func (p *process) kill() {
	p.mu.Lock()
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // fails if the process has ended
	}
	p.mu.Unlock()
	<-p.ended()
}

// stop ends the process gracefully and waits for its end.
func (p *process) stop() error {
	p.mu.Lock()
	if p.stdin != nil {
		_ = p.stdin.Close()
	}
	p.mu.Unlock()
	<-p.ended()
	return p.failure()
}

func (p *process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exited == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return p.exited
}

func (p *process) running() bool {
	select {
	case <-p.ended():
		return false
	default:
		return true
	}
}

func (p *process) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}

// wait waits until the process ends. If ctx ends first, wait kills the process.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended():
		return p.failure()
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("%s did not finish: %w", p.name, context.Cause(ctx))
	}
}

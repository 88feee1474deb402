package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
)

// process is a child process. The function line gets its output lines.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan struct{} // closed when the output has ended
	err   error         // valid when lines is closed
}

func start(line func(string), name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), lines: make(chan struct{})}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			line(s.Text())
		}
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// kill sends SIGKILL and waits for the end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.lines
}

// killTogether kills several processes at once and waits for their end.
func killTogether(list ...*process) {
	for _, p := range list {
		_ = p.cmd.Process.Kill()
	}
	for _, p := range list {
		<-p.lines
	}
}

// stop requests the end and waits for it.
func (p *process) stop() error {
	_ = p.stdin.Close()
	<-p.lines
	return p.err
}

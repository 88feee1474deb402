package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// runBroker runs the process of the mqtttest broker.
func runBroker(ctx context.Context, o options) error {
	b, err := mqtttest.New(mqtttest.Options{Addr: o.server, Dir: o.dir})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return b.Close()
}

// broker is a broker process with its state in a folder.
type broker struct {
	o    options
	addr string
	dir  string
	p    *process
}

func newBroker(o options, dir string) (*broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &broker{o: o, addr: l.Addr().String(), dir: filepath.Join(dir, "broker")}
	if err := errors.Join(l.Close(), os.MkdirAll(b.dir, 0o755)); err != nil {
		return nil, err
	}
	if o.broker == "mqtttest" {
		return b, nil
	}
	if _, err := exec.LookPath(o.broker); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(b.addr)
	limits := "max_inflight_messages 100\nmax_queued_messages 0\n"
	if o.plain {
		limits = ""
	}
	config := fmt.Sprintf("user root\nset_tcp_nodelay true\nlistener %s 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\n"+
		"autosave_on_changes true\nautosave_interval 1\nlog_dest stdout\nlog_type error\nlog_type warning\n%s", port, b.dir, limits)
	return b, os.WriteFile(b.config(), []byte(config), 0o600)
}

func (b *broker) config() string { return b.dir + ".conf" }

// start starts the broker and returns when it accepts connections.
func (b *broker) start(ctx context.Context) (err error) {
	line := func(text string) {
		if b.o.verbose {
			fmt.Println("broker:", text)
		}
	}
	if b.o.broker == "mqtttest" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		b.p, err = start(line, self, "-role", "broker", "-server", b.addr, "-dir", b.dir)
		if err != nil {
			return err
		}
	} else if b.p, err = start(line, b.o.broker, "-c", b.config()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-b.p.lines:
			return fmt.Errorf("%s has ended: %w", b.o.broker, b.p.err)
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (b *broker) saved() string { return b.dir + ".saved" }

// save copies the broker's state on disk.
func (b *broker) save() error {
	if err := os.RemoveAll(b.saved()); err != nil {
		return err
	}
	return copyFiles(b.dir, b.saved())
}

// rollBack replaces the state by the copy. The broker must not be running.
func (b *broker) rollBack() error {
	if err := os.RemoveAll(b.dir); err != nil {
		return err
	}
	return copyFiles(b.saved(), b.dir)
}

// copyFiles copies a folder. Files that are removed meanwhile are omitted.
func copyFiles(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
}

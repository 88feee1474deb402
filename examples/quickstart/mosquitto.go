package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// mosquitto is the value of -broker with which quickstart starts mosquitto itself. mosquitto stores
// its state on disk, and quickstart kills it with SIGKILL.
const mosquitto = "mosquitto"

// newMosquitto starts mosquitto on a free port and waits until it accepts connections.
func (s *stage) newMosquitto() (hostPort string, err error) {
	program, err := exec.LookPath(mosquitto)
	if err != nil {
		return "", fmt.Errorf("-broker mosquitto: %w; install it, or start a broker and use -broker mqtt://host:port", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	hostPort = l.Addr().String()
	dir := filepath.Join(s.o.dir, "broker")
	if err := errors.Join(l.Close(), os.MkdirAll(dir, 0o755)); err != nil {
		return "", err
	}
	config := filepath.Join(dir, "mosquitto.conf")
	// Without "user root", a mosquitto that root starts changes its user and cannot write to the
	// folder. Without autosave_interval, mosquitto saves its state every 30 minutes.
	text := fmt.Sprintf("user root\nlistener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\n"+
		"autosave_interval 1\nmax_inflight_messages 100\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type error\nlog_dest stdout\n",
		l.Addr().(*net.TCPAddr).Port, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return "", err
	}
	s.broker = newProcess("broker", s.referee.listener("broker"))
	s.broker.program, s.broker.args = program, []string{"-c", config}
	s.mosquitto = hostPort
	return hostPort, s.awaitMosquitto(context.Background())
}

// awaitMosquitto starts mosquitto and returns when it accepts connections.
func (s *stage) awaitMosquitto(ctx context.Context) error {
	if err := s.broker.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.mosquitto)
		if err == nil {
			return conn.Close()
		}
		if !s.broker.running() {
			return fmt.Errorf("mosquitto ended: %w", s.broker.failure())
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("mosquitto does not accept connections: %w", err)
		}
	}
}

// killMosquitto kills mosquitto and starts it again. mosquitto acknowledges messages before it saves
// them, so a kill loses acknowledged messages. No client can detect this. Therefore killMosquitto
// holds back mosquitto's last acknowledgements, so that the device sends these messages again.
func (s *stage) killMosquitto(ctx context.Context) error {
	const save = 1300 * time.Millisecond // mosquitto saves once per second
	s.deviceLink.Stall(mqtttest.ToClient)
	err := sleep(ctx, save)
	s.broker.kill()
	s.deviceLink.Cut()
	s.deviceLink.Resume()
	if err != nil {
		return err
	}
	return s.awaitMosquitto(ctx)
}

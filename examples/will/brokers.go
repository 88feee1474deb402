package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// broker is a broker that the cases run with.
type broker struct {
	name     string
	server   string // for client.Config.Servers
	dial     func(context.Context) (net.Conn, error)
	user     string
	password []byte

	tick     time.Duration // how early a will may be, because the clocks differ
	late     time.Duration // a will that is later than this is wrong or a departure
	slow     time.Duration // minimum time to wait for a late will
	known    bool          // the known departures apply to this broker
	foreign  bool          // wrong results are reported, but are not a failure
	outlives bool          // the broker continues to run, so a case must remove its messages and sessions
	close    func()
}

// tick is how far the clock of another process may differ from the clock of this one.
const tick = 10 * time.Millisecond

const (
	inProcessName   = "in-process"
	mosquittoTested = "mosquitto 2.0.11" // the version whose departures are known
)

// inProcess starts the broker of client/mqtttest on a free port.
func inProcess() (*broker, error) {
	b, err := mqtttest.New(mqtttest.Options{MQTT311: true})
	if err != nil {
		return nil, err
	}
	return &broker{name: inProcessName, server: b.URL(), dial: tcp(b.Addr()), late: time.Second, slow: time.Second,
		close: func() { _ = b.Close() }}, nil // without a folder, Close cannot fail
}

func tcp(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", addr) }
}

var errNotInstalled = errors.New("mosquitto is not on PATH; install it, or leave -mosquitto at auto")

var mosquittoVersion = regexp.MustCompile(`mosquitto version (\S+)`)

// mosquitto starts mosquitto on a free port, with a configuration in a temporary folder.
func mosquitto() (*broker, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		return nil, errNotInstalled
	}
	help, _ := exec.Command(path, "-h").Output() // the exit status of -h is 3
	name := "mosquitto"
	if found := mosquittoVersion.FindSubmatch(help); found != nil {
		name += " " + string(found[1])
	}
	dir, err := os.MkdirTemp("", "will")
	if err != nil {
		return nil, err
	}
	for range 5 { // another process may take the port first
		var addr string
		var stop func()
		if addr, stop, err = runMosquitto(path, dir); err == nil {
			return &broker{name: name, server: "mqtt://" + addr, dial: tcp(addr),
				tick: tick, late: time.Second, slow: 4 * time.Second, known: true,
				close: func() { stop(); _ = os.RemoveAll(dir) }}, nil // the system removes temporary files too
		}
	}
	_ = os.RemoveAll(dir) // as above
	return nil, err
}

func runMosquitto(path, dir string) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr = l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return "", nil, err
	}
	conf := filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_dest none\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return "", nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // a mosquitto that root starts changes its user
		return "", nil, err
	}
	cmd := exec.Command(path, "-c", conf)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // reports the kill
	}()
	stop = func() {
		_ = cmd.Process.Kill() // fails if the process has ended
		<-ended
	}
	for range 500 {
		if nc, err := net.Dial("tcp", addr); err == nil {
			return addr, stop, nc.Close()
		}
		select {
		case <-ended:
			return "", nil, fmt.Errorf("%s ended immediately; run it with -v and this configuration: %s", path, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
	stop()
	return "", nil, fmt.Errorf("%s does not listen on %s", path, addr)
}

// reach checks that the broker accepts a client.
func (b *broker) reach() error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	p, err := dialPeer(ctx, b)
	if err != nil {
		return fmt.Errorf("%s cannot be reached: %w", b.server, err)
	}
	defer p.close()
	if err := p.connect(control.Connect{KeepAlive: 60, CleanStart: true, HasUsername: b.user != "", Username: b.user, Password: b.password}); err != nil {
		return fmt.Errorf("%s: %w", b.server, err)
	}
	return p.send(control.AppendDisconnect(nil, &control.Disconnect{}))
}

// external returns the broker of the flag -broker.
func external(raw string) (*broker, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "mqtt" && u.Scheme != "mqtts" {
		return nil, fmt.Errorf("-broker %q: use mqtt://host:1883 or mqtts://host:8883, with user:password@ before the host if the broker requires credentials", raw)
	}
	b := &broker{name: u.Host, tick: tick, late: time.Second, slow: 4 * time.Second, foreign: true, outlives: true, close: func() {}}
	if u.User != nil {
		b.user = u.User.Username()
		if password, set := u.User.Password(); set {
			b.password = []byte(password)
		}
		u.User = nil
	}
	port := "1883"
	if u.Scheme == "mqtts" {
		port = "8883"
	}
	if u.Port() != "" {
		port = u.Port()
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	b.server, b.dial = u.String(), tcp(addr)
	if u.Scheme == "mqtts" {
		b.dial = func(ctx context.Context) (net.Conn, error) { return (&tls.Dialer{}).DialContext(ctx, "tcp", addr) }
	}
	return b, nil
}

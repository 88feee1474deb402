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

// broker is one that cases are played on.
type broker struct {
	name     string
	server   string // for client.Config.Servers
	dial     func(context.Context) (net.Conn, error)
	user     string
	password []byte

	tick     time.Duration // of its clock: a will that is no more than this early is not
	late     time.Duration // a will that comes later than this is wrong, or a departure
	slow     time.Duration // for how long at least a will is waited for that is late
	known    bool          // the known departures are this broker's
	foreign  bool          // what it does is reported, and is no failure
	outlives bool          // it is somebody else's, so nothing must stay there
	close    func()
}

// tick is what the clock of another process, perhaps on another machine, may be
// behind ours by.
const tick = 10 * time.Millisecond

const (
	oursName        = "in-process"
	mosquittoTested = "mosquitto 2.0.11" // whose departures the cases know
)

// inProcess is the broker of client/mqtttest, on a port of its own.
func inProcess() (*broker, error) {
	b, err := mqtttest.New(mqtttest.Options{MQTT311: true})
	if err != nil {
		return nil, err
	}
	return &broker{name: oursName, server: b.URL(), dial: tcp(b.Addr()), late: time.Second, slow: time.Second,
		close: func() { _ = b.Close() }}, nil // it keeps nothing that could fail to be written
}

func tcp(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", addr) }
}

var errNotInstalled = errors.New("mosquitto is not on PATH; install it, or leave -mosquitto at auto")

var mosquittoVersion = regexp.MustCompile(`mosquitto version (\S+)`)

// mosquitto is a process of its own on a free port, with a configuration in a
// temporary folder.
func mosquitto() (*broker, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		return nil, errNotInstalled
	}
	help, _ := exec.Command(path, "-h").Output() // its exit status is 3
	name := "mosquitto"
	if found := mosquittoVersion.FindSubmatch(help); found != nil {
		name += " " + string(found[1])
	}
	dir, err := os.MkdirTemp("", "will")
	if err != nil {
		return nil, err
	}
	for range 5 { // somebody may take the port in the meantime
		var addr string
		var stop func()
		if addr, stop, err = runMosquitto(path, dir); err == nil {
			return &broker{name: name, server: "mqtt://" + addr, dial: tcp(addr),
				tick: tick, late: time.Second, slow: 4 * time.Second, known: true,
				close: func() { stop(); _ = os.RemoveAll(dir) }}, nil // a folder for temporary files
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
	if err := os.Chmod(dir, 0o755); err != nil { // started by root, it reads as another user
		return "", nil, err
	}
	cmd := exec.Command(path, "-c", conf)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // killed, it has no good exit status
	}()
	stop = func() {
		_ = cmd.Process.Kill() // or it has ended by itself
		<-ended
	}
	for range 500 {
		if nc, err := net.Dial("tcp", addr); err == nil {
			return addr, stop, nc.Close()
		}
		select {
		case <-ended:
			return "", nil, fmt.Errorf("%s ended at once; try it with -v and a configuration of: %s", path, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
	stop()
	return "", nil, fmt.Errorf("%s does not listen on %s", path, addr)
}

// reach tries whether the broker lets a client in at all.
func (b *broker) reach() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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

// external is the broker of -broker.
func external(raw string) (*broker, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "mqtt" && u.Scheme != "mqtts" {
		return nil, fmt.Errorf("-broker %q: use mqtt://host:1883 or mqtts://host:8883, with user:password@ before the host if it asks for them", raw)
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

package interop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mosquitto is a separate process on a free port, with its state in a temporary folder.
type mosquitto struct {
	dir    string
	port   int
	config string // everything except the listener
	cmd    *exec.Cmd
	logged chan struct{} // closed when its log, and so the process, has ended
}

func startMosquitto(t *testing.T, need setup) broker {
	t.Helper()
	m := &mosquitto{dir: t.TempDir()}
	m.config = fmt.Sprintf(`
# Started by root it would give up its rights, and with them this folder.
user root
persistence %t
persistence_location %s/
autosave_on_changes true
autosave_interval 1
max_inflight_messages %d
max_queued_messages %d
log_dest stderr
log_type error
log_type information
`, !need.large, m.dir, need.receiveMaximum, need.maximumQueued)
	if need.maximumPacketSize > 0 {
		m.config += fmt.Sprintf("max_packet_size %d\n", need.maximumPacketSize)
	}
	if need.large {
		m.config += "set_tcp_nodelay true\n" // otherwise most rows of the matrix wait 40 ms
	}
	if need.users {
		m.writeUsers(t)
	} else {
		m.config += "allow_anonymous true\n"
	}
	m.start(t)
	t.Cleanup(func() { m.end(t, syscall.SIGTERM) })
	return m
}

// writeUsers configures goodUser and its permissions.
func (m *mosquitto) writeUsers(t *testing.T) {
	t.Helper()
	requireProgram(t, "mosquitto_passwd")
	users, rules := filepath.Join(m.dir, "users"), filepath.Join(m.dir, "rules")
	for file, text := range map[string]string{
		users: goodUser + ":" + goodPassword + "\n",
		rules: "user " + goodUser + "\ntopic readwrite #\ntopic deny +/" + deniedLevel + "/#\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mosquitto_passwd", "-U", users).CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	m.config += "allow_anonymous false\npassword_file " + users + "\nacl_file " + rules + "\n"
}

// start returns when mosquitto listens. If the port is taken meanwhile, it tries another one.
func (m *mosquitto) start(t *testing.T) {
	t.Helper()
	for range 5 {
		if m.listens(t) {
			return
		}
	}
	t.Fatal("mosquitto does not start, see its log above")
}

func (m *mosquitto) listens(t *testing.T) bool {
	t.Helper()
	m.port = freePort(t)
	file := filepath.Join(m.dir, "mosquitto.conf")
	listener := fmt.Sprintf("listener %d 127.0.0.1\n", m.port)
	if err := os.WriteFile(file, []byte(listener+m.config), 0o600); err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.Command("mosquitto", "-c", file)
	log, err := m.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running, logged := make(chan struct{}), make(chan struct{})
	m.logged = logged
	go func() {
		defer close(logged)
		follow(t, log, running)
	}()
	select {
	case <-running:
		return true
	case <-logged:
		_ = m.cmd.Wait() // the log contains the reason
		return false
	}
}

// follow forwards the errors in mosquitto's log, and closes running when mosquitto reports that it
// listens.
func follow(t *testing.T, log io.Reader, running chan<- struct{}) {
	reported := false
	for lines := bufio.NewScanner(log); lines.Scan(); {
		line := lines.Text()
		if !reported && strings.HasSuffix(line, " running") {
			reported = true
			close(running)
		}
		if strings.Contains(line, ": Error") {
			t.Log("mosquitto:", line)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// end sends the signal and waits for the process and its log.
func (m *mosquitto) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(signal); err != nil {
		t.Error("mosquitto ended by itself:", err)
	}
	<-m.logged
	_ = m.cmd.Wait() // a killed process has no good exit status
}

func (m *mosquitto) URL() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", m.port) }

func (m *mosquitto) Restart(t *testing.T, kill bool) {
	t.Helper()
	signal := syscall.SIGTERM
	if kill {
		signal = syscall.SIGKILL
	}
	m.end(t, signal)
	m.start(t)
}

// Traits describes mosquitto 2.0.11. It has cutsRefused with max_queued_messages 0, which it also
// applies to acknowledgements.
func (m *mosquitto) Traits() traits {
	return traits{savesLate: true, forgetsCleanStarts: true, repeatsComplete: true, cutsRefused: true, grantsDenied: true,
		exceedsReceiveMaximum: true, miscountsPackets: true, sharesRetained: true}
}

package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// counterpart is a process with clients in another language. All clients of that language in the
// matrix share one process, because starting a process takes longer than a test. It reads commands
// as JSON, one per line, and answers each with a line with the same number. It reports received
// messages in separate lines.
type counterpart struct {
	hello  string // name and versions
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer  // valid when ended is closed
	ended  chan struct{} // closed when its output has ended

	mu      sync.Mutex
	last    int
	waiting map[int]chan error
	inboxes map[string]*record[received]
}

// command is a line to the process. The relevant fields depend on Do.
type command struct {
	ID     int    `json:"id"`
	Do     string `json:"do"` // connect, subscribe, publish, end
	Client string `json:"client"`

	Host              string `json:"host"`
	Port              int    `json:"port"`
	TopicAliasMaximum uint16 `json:"topicAliasMaximum"`
	MaximumPacketSize uint32 `json:"maximumPacketSize"`

	Filter            string `json:"filter"`
	QoS               byte   `json:"qos"`
	RetainAsPublished bool   `json:"retainAsPublished"`
	SubscriptionID    uint32 `json:"subscriptionId"`

	Messages []packet `json:"messages"`
}

// answer is a line from the process: the initial hello, a received message, or the result of a
// command.
type answer struct {
	Hello   string    `json:"hello"`
	Client  string    `json:"client"`
	Message *received `json:"message"`
	ID      int       `json:"id"`
	Error   string    `json:"error"`
}

// errAbsent means that the counterpart is not installed.
var errAbsent = errors.New("not installed")

// startCounterpart starts a process that ends with the test. If the process does not send hello,
// the error is errAbsent, with the missing program.
func startCounterpart(t *testing.T, dir, program string, args ...string) (*counterpart, error) {
	t.Helper()
	c := &counterpart{cmd: exec.Command(program, args...), ended: make(chan struct{}),
		waiting: map[int]chan error{}, inboxes: map[string]*record[received]{}}
	c.cmd.Dir, c.cmd.Stderr = dir, &c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", errAbsent, err)
	}
	lines := json.NewDecoder(stdout)
	var first answer
	if err := lines.Decode(&first); err != nil || first.Hello == "" {
		_ = c.stdin.Close()
		_ = c.cmd.Wait()
		return nil, fmt.Errorf("%w: %s", errAbsent, bytes.TrimSpace(c.stderr.Bytes()))
	}
	c.hello = first.Hello
	go c.read(lines)
	t.Cleanup(func() { c.stop(t) })
	return c, nil
}

func (c *counterpart) stop(t *testing.T) {
	_ = c.stdin.Close() // it then ends by itself
	kill := time.AfterFunc(timeout, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	<-c.ended
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("%s: %v: %s", c.hello, err, c.stderr.Bytes())
	}
}

func (c *counterpart) read(lines *json.Decoder) {
	defer close(c.ended)
	for {
		var a answer
		if lines.Decode(&a) != nil {
			return
		}
		c.mu.Lock()
		in, done := c.inboxes[a.Client], c.waiting[a.ID]
		delete(c.waiting, a.ID)
		c.mu.Unlock()
		switch {
		case a.Message != nil && in != nil:
			in.add(*a.Message)
		case done != nil && a.Error != "":
			done <- errors.New(a.Error)
		case done != nil:
			done <- nil
		}
	}
}

// do executes a command. The error is the message of the client.
func (c *counterpart) do(ctx context.Context, cmd command) error {
	done := make(chan error, 1)
	c.mu.Lock()
	c.last++
	cmd.ID = c.last
	c.waiting[cmd.ID] = done
	if cmd.Do == "connect" {
		c.inboxes[cmd.Client] = &record[received]{}
	}
	err := json.NewEncoder(c.stdin).Encode(cmd)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-c.ended:
		return fmt.Errorf("%s ended by itself: %s", c.hello, c.stderr.Bytes())
	case <-ctx.Done():
		return fmt.Errorf("%s: %s takes too long", c.hello, cmd.Do)
	}
}

func (c *counterpart) inbox(client string) *record[received] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inboxes[client]
}

// startMQTTJS installs MQTT.js, in the version of testdata, into a temporary folder and starts it.
func startMQTTJS(t *testing.T) (*counterpart, error) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: %s is not on PATH; install Node.js and npm", errAbsent, program)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "mqttjs"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), installPatience)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1")
	npm.Dir, npm.WaitDelay = dir, time.Second
	if out, err := npm.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: npm ci: %w: %s", errAbsent, err, out)
	}
	return startCounterpart(t, dir, "node", "peer.js")
}

const installPatience = 2 * time.Minute

// startPaho starts paho-python with the first Python that has it. Debian's package belongs to
// Debian's Python, which may not be the first one on PATH.
func startPaho(t *testing.T) (*counterpart, error) {
	t.Helper()
	var err error
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		var c *counterpart
		if c, err = startCounterpart(t, filepath.Join("testdata", "paho"), python, "-B", "peer.py"); err == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w; install Python 3 and paho-mqtt (Debian: python3-paho-mqtt)", err)
}

// requirePeers is the variable that makes a missing counterpart a failure.
const requirePeers = "MOORING_REQUIRE_PEERS"

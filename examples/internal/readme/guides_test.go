//go:build unix

package readme

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/examples/internal/service"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

var program = regexp.MustCompile("(?s)`(\\w+)/main\\.go`:\n\n```go\n(.*?)```")

// buildGuide builds the programs of a guide, and returns their paths by folder.
func buildGuide(t *testing.T, name string) map[string]string {
	t.Helper()
	built := map[string]string{}
	for _, m := range program.FindAllStringSubmatch(documents(t)[name], -1) {
		source, to := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), m[1])
		if err := os.WriteFile(source, []byte(m[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "build", "-o", to, source)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", m[1], err, out)
		}
		built[m[1]] = to
	}
	return built
}

// TestGettingStarted runs the programs of the guide. They are stopped, killed and
// restarted as the guide describes, and the backend prints each reading once, in order.
func TestGettingStarted(t *testing.T) {
	programs := buildGuide(t, "docs/guides/getting-started.md")
	t.Chdir(t.TempDir()) // the programs write to the working directory
	start := func(name string, args ...string) *service.Service { return service.Start(t, programs[name], args...) }
	end := func(name string, s *service.Service, sig syscall.Signal) {
		t.Helper()
		s.Signal(sig)
		if code, took := s.Wait(); code != 0 {
			t.Fatalf("%s: exit code %d after %v, want 0", name, code, took)
		}
	}

	broker := start("broker", "-addr", "127.0.0.1:0")
	broker.Await("listening on ")
	_, server, _ := strings.Cut(broker.Output(), "listening on ")
	_, addr, _ := strings.Cut(server, "://")
	backend, device := start("backend", "-server", server), start("device", "-server", server)
	backend.Await("pump/7/rpm: 2")

	end("broker", broker, syscall.SIGINT)
	device.Await("connecting failed")
	broker = start("broker", "-addr", addr)
	backend.Await("pump/7/rpm: 4")

	device.Signal(syscall.SIGKILL)
	device.Wait()
	end("backend", backend, syscall.SIGTERM)
	device = start("device", "-server", server)
	device.Await("connected")
	printed := backend.Output()
	backend = start("backend", "-server", server)
	backend.Await("pump/7/rpm: ")

	end("broker", broker, syscall.SIGTERM)
	for before := inspected(t).Accepted; inspected(t).Accepted == before; { // the device accepts a reading that it cannot send
		time.Sleep(20 * time.Millisecond)
	}
	end("device", device, syscall.SIGTERM)
	if !strings.Contains(device.Output(), "the next start delivers the rest") {
		t.Error("no message was pending when the device ended")
	}
	broker = start("broker", "-addr", addr)
	device = start("device", "-server", server)
	device.Await("connected")
	end("device", device, syscall.SIGINT)

	stats := inspected(t)
	backend.Await(fmt.Sprintf("pump/7/rpm: %d", stats.Accepted))
	end("backend", backend, syscall.SIGINT)
	end("broker", broker, syscall.SIGINT)
	n := uint64(0)
	for line := range strings.Lines(printed + "\n" + backend.Output()) {
		if reading, ok := strings.CutPrefix(strings.TrimSpace(line), "pump/7/rpm: "); ok {
			if n++; reading != fmt.Sprint(n) {
				t.Errorf("reading %d is %s", n, reading)
			}
		}
	}
	if n != stats.Accepted || stats.Pending != 0 {
		t.Errorf("%d readings were printed and %d are pending, of %d", n, stats.Pending, stats.Accepted)
	}
}

// TestMigrating runs the two programs of the guide, one after the other. A command that is
// published while neither runs reaches the second one, which continues the session.
func TestMigrating(t *testing.T) {
	programs := buildGuide(t, "docs/guides/migrating.md")
	t.Chdir(t.TempDir())
	b := mqtttest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := func(text string) {
		t.Helper()
		if n, err := b.Publish(mqtttest.Message{Topic: "pump/7/set", Payload: []byte(text), QoS: 2}); n != 1 || err != nil {
			t.Fatalf("the command %q has %d subscribers, want 1; error: %v", text, n, err)
		}
	}
	for _, name := range []string{"before", "after"} {
		readings := b.Stats().MessagesIn
		s := service.Start(t, programs[name], "-server", b.URL())
		if name == "before" {
			if err := b.WaitSubscribed(ctx, "pump-7", "pump/7/set"); err != nil {
				t.Fatal(err)
			}
			command("faster")
			s.Await("command: faster")
		} else {
			s.Await("command: slower") // of the session
		}
		if err := b.WaitFor(ctx, func() bool { return b.Stats().MessagesIn > readings }); err != nil {
			t.Errorf("%s publishes no reading: %v", name, err)
		}
		s.Signal(syscall.SIGTERM)
		if code, took := s.Wait(); code != 0 {
			t.Fatalf("%s: exit code %d after %v, want 0", name, code, took)
		}
		command("slower")
	}
}

// inspected returns the counters of the device's store.
func inspected(t *testing.T) persistence.Stats {
	t.Helper()
	folder, err := inspect.Open("pump-7-data", persistence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	return folder.Stats
}

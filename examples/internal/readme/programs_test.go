//go:build unix

package readme

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/examples/internal/service"
)

// around makes a program of the functions of the README.
const around = `package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
)

func main() {
	run := map[string]func() error{"device": device, "backend": backend}[os.Args[1]]
	if err := run(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	time.Sleep(100 * time.Millisecond) // the goroutine of signal.NotifyContext ends
	var stacks strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	if strings.Contains(stacks.String(), "mooring/") || strings.Contains(stacks.String(), "NotifyContext") {
		fmt.Println(stacks.String())
		os.Exit(3)
	}
}

var n int

func measure() []byte { n++; return fmt.Appendf(nil, "%s %d", os.Args[2], n) }

func store(topic string, payload []byte) error {
	_, err := fmt.Printf("%s: %s\n", topic, payload)
	return err
}
`

// TestReadme_Programs runs the programs of the README. The device is killed once and
// stopped once, the backend is stopped. Both end with status 0 and leave no goroutine.
func TestReadme_Programs(t *testing.T) {
	b := mqtttest.Start(t)
	source := around
	for _, block := range blocks("README.md", documents(t)["README.md"]) {
		source += block.code
	}
	source = strings.ReplaceAll(strings.ReplaceAll(source, "mqtt://localhost:1883", b.URL()), "time.Tick(time.Second)", "time.Tick(20*time.Millisecond)")
	folder := t.TempDir()
	file, program := filepath.Join(folder, "main.go"), filepath.Join(folder, "program")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", program, file)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Chdir(folder) // the programs write to the working directory

	end := func(s *service.Service) {
		t.Helper()
		s.Signal(syscall.SIGTERM)
		if code, took := s.Wait(); code != 0 {
			t.Fatalf("exit code %d after %v, want 0", code, took)
		}
	}
	backend := service.Start(t, program, "backend")
	if err := b.WaitSubscribed(t.Context(), "backend", "presses/#"); err != nil {
		t.Fatal(err)
	}
	device := service.Start(t, program, "device", "killed")
	backend.Await("killed 5")
	device.Signal(syscall.SIGKILL)
	device.Wait()
	device = service.Start(t, program, "device", "stopped")
	backend.Await("stopped 5")
	end(device)
	end(backend)

	last := map[string]int{}
	for line := range strings.Lines(backend.Output()) {
		var name string
		var n int
		if _, err := fmt.Sscanf(line, "presses/4/temperature: %s %d", &name, &n); err == nil {
			if last[name]++; n != last[name] {
				t.Errorf("reading %d of the device that is %s is number %d", n, name, last[name])
			}
		}
	}
	if last["killed"] < 5 || last["stopped"] < 5 {
		t.Errorf("readings: %v", last)
	}
}

package interop

import (
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/ostest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	leaktest.Main(m)
}

// onEachBroker runs a test on each available broker, configured as the test needs.
func onEachBroker(t *testing.T, need setup, test func(*run)) {
	t.Run("mqtttest", func(t *testing.T) { test(newRun(t, startOurs(t, need))) })
	t.Run("mosquitto", func(t *testing.T) {
		requireProgram(t, "mosquitto")
		test(newRun(t, startMosquitto(t, need)))
	})
	if url := os.Getenv("MQTT_TEST_BROKER"); url != "" {
		t.Run("MQTT_TEST_BROKER", func(t *testing.T) { test(newRun(t, useForeign(t, url, need))) })
	}
}

// requireProgram skips the test if a program of mosquitto is not installed, or fails it if the
// program is required.
func requireProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		ostest.Missing(t, "MOORING_REQUIRE_MOSQUITTO", name+" on PATH; install mosquitto and its clients")
	}
}

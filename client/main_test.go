package client_test

import (
	"log/slog"
	"os"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/leaktest"
)

// TestMain is also the second process of TestNew_FolderInUseByAnotherProcess and of
// TestKilled_AfterAcknowledgement.
func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		hold(dir)
		return
	}
	if dir := os.Getenv(killedVariable); dir != "" {
		publishUntilKilled(dir)
		return
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // tests that look at the log set another one
	*client.IdentifiesFiles = true                 // so that a finding does not depend on this system
	leaktest.Main(m)
}

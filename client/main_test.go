package client_test

import (
	"os"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
)

// TestMain is also the second process of TestAFolderInUseByAnotherProcess.
func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		hold(dir)
		return
	}
	leaktest.Main(m)
}

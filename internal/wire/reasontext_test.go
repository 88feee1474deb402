package wire_test

import (
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestReasonText(t *testing.T) {
	for in, want := range map[string]int{
		"": 0, "quota": 5,
		strings.Repeat("x", 1024):       1024,
		strings.Repeat("x", 65_535):     1024,
		"x" + strings.Repeat("é", 1000): 1023,
	} {
		if got := wire.ReasonText([]byte(in)); len(got) != want || !strings.HasPrefix(in, got) {
			t.Errorf("%d bytes are cut to %d, want %d", len(in), len(got), want)
		}
	}
}

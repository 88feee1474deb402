package reliability

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/configdoc"
)

func TestOptions_DocumentedDefaults(t *testing.T) {
	lo, hi, factor := Backoff{}.bounds()
	configdoc.CheckDefaults(t, "..", "reliability.Backoff", Backoff{Min: lo, Max: hi, Factor: factor}, nil)
	o := NewBreaker(BreakerOptions{}).opts
	configdoc.CheckDefaults(t, "..", "reliability.BreakerOptions", o, map[string]any{"Judge": o.Judge})
}

package dedupe

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/configdoc"
)

func TestOptions_DocumentedDefaults(t *testing.T) {
	o := Options{}.withDefaults()
	configdoc.CheckDefaults(t, "..", "dedupe.Options", o, map[string]any{"MaxBytes": 128 * o.Capacity})
}

package ordering

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/configdoc"
)

func TestOptions_DocumentedDefaults(t *testing.T) {
	configdoc.CheckDefaults(t, "..", "ordering.Options", Options{}.withDefaults(), nil)
}

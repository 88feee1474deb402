package persistence

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/configdoc"
)

func TestOptions_DocumentedDefaults(t *testing.T) {
	o := Options{}.withDefaults()
	configdoc.CheckDefaults(t, "..", "persistence.Options", o, map[string]any{
		"Limits.MaxDiskBytes": 4*o.Limits.MaxBytes + 4*o.Files.SegmentBytes,
	})
	if most := (Options{}).on(1 << 30).Limits.MaxDiskBytes; most != 1<<29 {
		t.Errorf("MaxDiskBytes is %d on a partition of 1 GiB, want half of it", most)
	}
}

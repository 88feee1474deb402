package inspect

import (
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// TestFolder_ListsAreBounded checks that the lists are bounded, but that all damage is counted.
func TestFolder_ListsAreBounded(t *testing.T) {
	var f Folder
	for i := range uint64(2 * maxListed) {
		f.note(recovery.Damage{})
		f.miss(3*i, 3*i+1)
		f.miss(3*i+1, 3*i+2)
	}
	if len(f.Corruptions) != maxListed || len(f.Missing) != maxListed || f.Missing[1] != (Range{3, 4}) || f.Stats.Corruptions != 2*maxListed {
		t.Errorf("%d, %d, %v", len(f.Corruptions), len(f.Missing), f.Missing[1])
	}
}

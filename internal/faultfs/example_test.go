package faultfs_test

import (
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// An application replaces a file without syncing it first. After a crash, the name may refer to an
// empty file.
func Example() {
	fsys := faultfs.From(map[string][]byte{"etc/config": []byte("old")})
	f, _ := fsys.Create("etc/config.new")
	f.WriteAt([]byte("new"), 0)
	f.Close()
	fsys.Rename("etc/config.new", "etc/config")
	fsys.SyncDir("etc")

	seen := map[string]bool{}
	for state := range fsys.Trace().States(faultfs.Plan{}) {
		seen[string(state.FS().Files()["etc/config"])] = true
	}
	fmt.Println(seen["old"], seen["new"], seen[""])
	// Output: true true true
}

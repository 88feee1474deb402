package persistence

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// TestOpen_UnreadablePlace opens a log in which a place, or a whole segment, cannot be read for
// some time or permanently. All readable data must be found, and the rest must be reported.
func TestOpen_UnreadablePlace(t *testing.T) {
	whole := manySegments(t, 60) // 30 are pending
	names := []string{oldest, "log/0000000000000003.mlog"}
	last := ""
	for name := range whole.Files() {
		if name != "log/RESERVE" {
			last = max(last, name)
		}
	}
	for _, name := range append(names, last) {
		for _, place := range [][2]int64{{0, 1}, {100, 101}, {600, 1200}, {0, 1 << 20}} {
			for _, lasts := range []time.Duration{time.Second, 0} { // 0: permanently
				t.Run(fmt.Sprint(name, place, lasts), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						disk := onMemFS(faultfs.From(whole.Files()))
						begin := time.Now()
						disk.SetFault(func(op faultfs.Op) (int, error) {
							if op.Kind == faultfs.Read && op.Name == name && op.Off < place[1] && op.Off+int64(op.Len) > place[0] && (lasts == 0 || time.Since(begin) < lasts) {
								return 0, syscall.EIO
							}
							return op.Len, nil
						})
						var reported []Corruption
						o := with(small, func(o *Options) { o.OnCorruption = func(x Corruption) { reported = append(reported, x) } })
						l := open(t, disk, o)
						defer l.Close()
						if took := time.Since(begin); took > 2*time.Second {
							t.Errorf("opening took %v", took)
						}
						seqs, _ := contents(t, l)
						switch {
						case lasts > 0:
							if len(seqs) != 30 || len(reported) > 0 {
								t.Errorf("%v are pending, reported %v", seqs, reported)
							}
						case len(seqs) < 20 || len(reported) == 0:
							t.Errorf("%v are pending, reported %v", seqs, reported)
						case len(seqs)+int(l.Stats().Lost) < 30 && !(name == last && place[1] == 1<<20): // there is no record of its messages
							t.Errorf("%v are pending, %d lost, reported %v", seqs, l.Stats().Lost, reported)
						}
						named := false
						for _, x := range reported {
							named = named || x.File == name && errors.Is(x.Err, syscall.EIO)
						}
						if lasts == 0 && !named {
							t.Errorf("reported %v", reported)
						}
						if _, err := Append(l, numbered(l.LastSeq()+1, 8)); err != nil {
							t.Error(err)
						}
					})
				})
			}
		}
	}
}

package setaside

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
)

// TestList_Outages makes each operation fail with each error, for some time or permanently. Entries
// stay in the list, others are refused, and the list accepts entries again when the disk works.
func TestList_Outages(t *testing.T) {
	causes := []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.EIO, syscall.EROFS, syscall.ENOMEM, syscall.ENODEV}
	for _, cause := range causes {
		for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Sync} { // a second attempt needs a new file
			for _, lasts := range []time.Duration{time.Second, 30 * time.Second, 0} { // 0: permanently
				t.Run(fmt.Sprint(kind, ", ", cause, ", ", lasts), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						disk := faultfs.New()
						o := persistence.Options{FS: disk}
						l, err := New("received", o)
						if err != nil {
							t.Fatal(err)
						}
						var ids []uint64
						for range 3 {
							id, err := l.Add(sample("x"))
							if err != nil {
								t.Fatal(err)
							}
							ids = append(ids, id)
						}
						begin := time.Now()
						disk.SetFault(func(op faultfs.Op) (int, error) {
							if (lasts == 0 || time.Since(begin) < lasts) && (op.Kind == kind || op.Kind == faultfs.Create) {
								return 0, cause
							}
							return op.Len, nil
						})
						for range 5 {
							if _, err := l.Add(sample("refused")); !errors.Is(err, persistence.ErrDegraded) || !errors.Is(err, cause) {
								t.Fatalf("Add in the outage: %v", err)
							}
							time.Sleep(100 * time.Millisecond)
						}
						if e, err := l.Get(ids[0]); err != nil || e.ID != ids[0] {
							t.Errorf("Get: %v", err)
						}
						if lasts > 0 {
							time.Sleep(lasts + 6*time.Second)
							id, err := l.Add(sample("after"))
							if err != nil {
								t.Fatalf("Add after the outage: %v", err)
							}
							ids = append(ids, id)
						}
						if got := l.IDs(); !slices.Equal(got, ids) {
							t.Errorf("%v are listed, want %v", got, ids)
						}
						if err := l.Close(); (err != nil) != (lasts == 0) {
							t.Errorf("Close: %v", err)
						}
						disk.SetFault(nil)
						if l, err = New("received", o); err != nil {
							t.Fatal(err)
						}
						if got := l.IDs(); !slices.Equal(got[:len(ids)], ids) || len(got) > len(ids)+1 || lasts > 0 && len(got) != len(ids) {
							t.Errorf("after a restart, %v are listed, want %v", got, ids)
						}
						if err := l.Close(); err != nil {
							t.Error(err)
						}
					})
				})
			}
		}
	}
}

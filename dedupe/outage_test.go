package dedupe

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// TestFile_Outages makes each operation fail with each error, for some time or permanently. Keys
// must stay Duplicates. The first commit after the fault makes them durable, and so does opening
// the file again.
func TestFile_Outages(t *testing.T) {
	causes := []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.EIO, syscall.EROFS, syscall.ENOMEM, syscall.ENODEV}
	kinds := []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.SyncDir, faultfs.Rename, faultfs.Remove, faultfs.Open}
	for _, cause := range causes {
		for _, kind := range kinds {
			for _, lasts := range []time.Duration{time.Second, 30 * time.Second, 0} { // 0: permanently
				t.Run(fmt.Sprint(kind, ", ", cause, ", ", lasts), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						disk := faultfs.New()
						f, err := openFile("/keys", Options{TTL: -1}, disk)
						if err != nil {
							t.Fatal(err)
						}
						commit := func(key string) error {
							c, verdict, err := f.Begin(t.Context(), key, "owner")
							if err != nil || verdict != Fresh {
								t.Fatalf("Begin: %v, %v", verdict, err)
							}
							return f.Commit(t.Context(), c)
						}
						if err := commit("before"); err != nil {
							t.Fatal(err)
						}
						begin, healed := time.Now(), false
						disk.SetFault(func(op faultfs.Op) (int, error) {
							broken := lasts == 0 || time.Since(begin) < lasts
							if !healed && broken && (op.Kind == kind || op.Kind == faultfs.Write && kind != faultfs.Sync) { // a rewrite needs an operation of this kind
								return 0, cause
							}
							return op.Len, nil
						})
						keys := []string{"before"}
						for n := range 5 {
							key := fmt.Sprint("during ", n)
							var refused *CommitError
							if err := commit(key); !errors.As(err, &refused) || !errors.Is(err, cause) {
								t.Fatalf("Commit in the outage: %v", err)
							}
							keys = append(keys, key)
							time.Sleep(100 * time.Millisecond)
						}
						for _, key := range keys {
							if _, verdict, err := f.Begin(t.Context(), key, "owner"); verdict != Duplicate || err != nil {
								t.Errorf("%s: %v, %v", key, verdict, err)
							}
						}
						if lasts > 0 {
							time.Sleep(lasts)
							if err := commit("after"); err != nil {
								t.Fatalf("Commit after the outage: %v", err)
							}
							keys = append(keys, "after")
							disk = disk.Killed()
						} else {
							if err := f.Close(); !errors.Is(err, cause) {
								t.Errorf("Close: %v", err)
							}
							healed, keys = true, keys[:1]
							disk.SetFault(nil)
						}
						f, err = openFile("/keys", Options{TTL: -1}, disk)
						if err != nil {
							t.Fatal(err)
						}
						for _, key := range keys {
							if _, verdict, err := f.Begin(t.Context(), key, "owner"); verdict != Duplicate || err != nil {
								t.Errorf("after a restart, %s: %v, %v", key, verdict, err)
							}
						}
						if err := f.Close(); err != nil {
							t.Error(err)
						}
					})
				})
			}
		}
	}
}

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

// TestOpenFile_DiskRefusesWrites opens a log twice while the disk refuses writes, once after a crash in the middle of a
// record. The keys in the log are Duplicates, and fencing tokens increase. When the disk takes writes, the next commit
// makes all keys durable.
func TestOpenFile_DiskRefusesWrites(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EMFILE, syscall.EIO, syscall.EROFS} {
		for _, torn := range []bool{false, true} {
			t.Run(fmt.Sprint(cause, ", torn ", torn), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { openRefused(t, cause, torn) })
			})
		}
	}
}

func openRefused(t *testing.T, cause error, torn bool) {
	disk := faultfs.New()
	var f *File
	var token uint64
	open := func() {
		t.Helper()
		var err error
		if f, err = openFile("/keys", Options{TTL: -1}, disk); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(key string, want Verdict) Claim {
		t.Helper()
		c, verdict, err := f.Begin(t.Context(), key, "owner")
		if err != nil || verdict != want {
			t.Fatalf("Begin %s: %v, %v", key, verdict, err)
		}
		if want == Fresh {
			if c.Token <= token {
				t.Fatalf("token %d after %d", c.Token, token)
			}
			token = c.Token
		}
		return c
	}
	refuse := func() {
		disk.SetFault(func(op faultfs.Op) (int, error) {
			switch op.Kind {
			case faultfs.Create, faultfs.Write, faultfs.Truncate, faultfs.Sync:
				return 0, cause
			}
			return op.Len, nil
		})
	}
	open()
	if err := f.Commit(t.Context(), begin("before", Fresh)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if torn {
		l, err := disk.Open("/keys")
		if err != nil {
			t.Fatal(err)
		}
		size, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = l.WriteAt([]byte{1, 2, 3}, size); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	for n := range 2 {
		refuse()
		open()
		begin("before", Duplicate)
		key, refused := fmt.Sprint("during ", n), (*CommitError)(nil)
		if err := f.Commit(t.Context(), begin(key, Fresh)); !errors.As(err, &refused) || !errors.Is(err, cause) {
			t.Fatalf("Commit: %v", err)
		}
		begin(key, Duplicate)
		if f.Stats().WriteErrors == 0 {
			t.Error("the failure is not counted")
		}
		if n == 0 { // the process ends
			if err := f.Close(); !errors.Is(err, cause) {
				t.Fatalf("Close: %v", err)
			}
		}
		time.Sleep(time.Second)
	}
	disk.SetFault(nil)
	if err := f.Commit(t.Context(), begin("after", Fresh)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	open()
	for _, key := range []string{"before", "during 1", "after"} {
		begin(key, Duplicate)
	}
	begin("during 0", Fresh) // its process has reported that it is not durable
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	// The log has a base token that is ahead of the time. An opening that cannot write another one
	// could give out the same tokens as the one after it, so it fails, until the time has passed.
	refuse()
	if _, err := openFile("/keys", Options{TTL: -1}, disk); !errors.Is(err, cause) {
		t.Errorf("opened again: %v, want %v", err, cause)
	}
	time.Sleep(time.Hour)
	open()
	begin("later", Fresh)
	_ = f.Close()
}

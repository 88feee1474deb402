package persistence_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
)

// After a slow sync with several waiters, a single message waits at most 1 ms for others. It must
// sleep meanwhile: in a synctest bubble, time stands still while a goroutine is busy, so a busy
// wait would never end.
func TestLog_GathersAtMostOneMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := faultfs.New()
		l, err := persistence.Open("log", persistence.Options{FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		add := func() {
			if _, err := persistence.Append(l, &persistence.Message{Packet: []byte("packet")}); err != nil {
				t.Error(err)
			}
		}
		disk.SetHang(func(op faultfs.Op) <-chan struct{} {
			if op.Kind != faultfs.Sync {
				return nil
			}
			c := make(chan struct{})
			time.AfterFunc(10*time.Second, func() { close(c) })
			return c
		})
		go add()
		synctest.Wait() // the first syncs alone, and the others share the next sync
		for range 4 {
			go add()
		}
		time.Sleep(21 * time.Second)
		synctest.Wait()
		disk.SetHang(nil)
		began := time.Now()
		add()
		if took := time.Since(began); took != time.Millisecond {
			t.Errorf("a message alone took %v, want 1ms for others to join", took)
		}
		began = time.Now()
		add()
		if took := time.Since(began); took != 0 {
			t.Errorf("the next message took %v, want none: nobody joined the one before", took)
		}
	})
}

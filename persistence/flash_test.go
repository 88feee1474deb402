package persistence

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// TestFlash checks that one message per second costs one page for each window with Flash, and at
// least one page for each message without it.
func TestFlash(t *testing.T) {
	hour := func(o Options, readings int) (pages uint64) {
		synctest.Test(t, func(t *testing.T) {
			l := open(t, newMemFS(), o)
			defer l.Close()
			for n := range readings {
				if _, err := Append(l, &Message{Packet: make([]byte, 50)}); err != nil {
					t.Fatal(err)
				}
				if err := l.Done(uint64(n+1), Result{Kind: Acked}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			pages = l.Stats().PageBytes / segment.PageSize
		})
		return pages
	}
	const readings = 3600
	if each, flash := hour(Options{}, readings), hour(Flash(time.Minute), readings); each < readings || flash > readings/60*4 {
		t.Errorf("an hour of readings costs %d pages, with Flash %d", each, flash)
	}
}

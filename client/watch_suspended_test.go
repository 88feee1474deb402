package client

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/retained"
)

// TestWatch_JudgesSilenceAfterReading: the process is suspended for 16 s, so neither the alarm nor a
// message is processed. The heartbeats that arrived meanwhile count before a device becomes Stale.
func TestWatch_JudgesSilenceAfterReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &StatusWatch{tracker: presence.NewTracker(presence.Options{})}
		w.changes = changes[presence.Change]{limit: 10}
		defer w.finish()
		beat := func(topics ...string) {
			for _, topic := range topics {
				s := presence.Status{State: presence.Online, Time: time.Now(), Interval: 5 * time.Second}
				w.take(&Message{Topic: topic, Payload: s.Append(nil)}, retained.Live)
			}
		}
		beat("a", "b", "stopped")
		for range 3 {
			time.Sleep(5 * time.Second)
			beat("a", "b")
		}
		stale := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for d := range w.All() {
				if d.State == presence.Stale {
					got = append(got, d.Topic)
				}
			}
			if len(got) != len(want) || len(want) > 0 && got[0] != want[0] {
				t.Errorf("stale: %q, want %q", got, want)
			}
		}
		stale("stopped")
		beat("stopped")
		since, _ := w.Get("b")

		w.alarm.timer.Stop()
		time.Sleep(16 * time.Second)
		beat("a") // the first of the waiting messages
		stale()
		time.Sleep(2 * time.Second)
		beat("b")
		if d, _ := w.Get("b"); !d.Since.Equal(since.Since) {
			t.Errorf("got %+v", d)
		}
		for range 4 { // 16 s later, the third device has still published nothing
			time.Sleep(4 * time.Second)
			beat("a", "b")
		}
		stale("stopped")
	})
}

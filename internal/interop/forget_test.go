package interop

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
)

// TestKill_ForgottenMessagesAreReportedAsGaps kills the broker at random times. Messages that it
// had acknowledged and lost cannot be restored, but each number is either handled once or reported
// as missing.
func TestKill_ForgottenMessagesAreReportedAsGaps(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{restarts: true}, func(r *run) {
		subLink, pubLink := r.proxy(), r.proxy()
		subCfg, pubCfg := r.config("sub"), r.config("pub")
		cache := dedupe.NewMemory(dedupe.Options{})
		r.Cleanup(func() { _ = cache.Close() })
		subCfg.Servers, subCfg.Receiving.Dedupe = []string{subLink.URL()}, cache
		subCfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{Start: ordering.FromOne, GapTimeout: time.Second}}
		subEvents, pubEvents := watch(&subCfg), watch(&pubCfg)
		in := r.subscribe(r.start(subCfg), r.topic("traffic/+"), client.ExactlyOnce)
		pubCfg.Servers, pubCfg.Dir, pubCfg.Publishing.Sequenced = []string{pubLink.URL()}, r.TempDir(), true
		publisher := r.start(pubCfg)
		r.resumeOnce([]*mqtttest.Proxy{subLink, pubLink}, subEvents, pubEvents)
		flow := r.traffic(publisher)
		in.awaitN(r, "messages before the broker is killed", 50)
		r.restart(true, subLink, pubLink)
		list, _ := in.snapshot()
		in.awaitN(r, "messages after the broker was killed", len(list)+50)
		flow.stop()
		missing := 0
		for qos := client.AtLeastOnce; qos <= client.ExactlyOnce; qos++ {
			topic := flow.topic(qos)
			r.fence(publisher, in, topic, qos)
			reported := map[string]bool{}
			list, _ := subEvents.snapshot()
			for _, e := range list {
				if gap, ok := e.(client.Gap); ok && gap.Topic == topic {
					for seq := gap.From; seq <= gap.To; seq++ {
						reported[numbered(int(seq-1))] = true
					}
				}
			}
			missing += len(reported)
			var want []string
			for _, text := range numberedUpTo(flow.accepted[qos]) {
				if !reported[text] {
					want = append(want, text)
				}
			}
			r.expectExactly(in, topic, want)
		}
		switch {
		case missing == 0:
		case r.broker.Traits().savesLate:
			r.Logf("departs from [MQTT-4.3.2-4] and [MQTT-4.3.3-8]: SIGKILL made it forget %d messages that it acknowledged; each was reported", missing)
		default:
			r.Errorf("%d messages are missing", missing)
		}
	})
}

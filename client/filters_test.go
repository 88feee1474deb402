package client_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

const manyFilters = 10_000

// TestFilters_Many declares 10,000 filters in each way, and has messages come for them. The bounds
// are wide, and far below what work per filter and message would take.
func TestFilters_Many(t *testing.T) {
	const bound = 8 * time.Second
	for name, declare := range map[string]func(t *testing.T, c *client.Client, h client.Handler){
		"in a loop before Start": func(t *testing.T, c *client.Client, h client.Handler) {
			for i := range manyFilters {
				must1(c.Subscribe(t.Context(), filterNumber(i), client.AtLeastOnce, h))
			}
			start(t, c)
		},
		"in a loop while connected": func(t *testing.T, c *client.Client, h client.Handler) {
			start(t, c)
			connect(t, c)
			for i := range manyFilters {
				must1(c.Subscribe(t.Context(), filterNumber(i), client.AtLeastOnce, h))
			}
		},
		"in one call before Start": func(t *testing.T, c *client.Client, h client.Handler) {
			must1(c.SubscribeAll(t.Context(), allFilters(h)))
			start(t, c)
		},
		"in one call while connected": func(t *testing.T, c *client.Client, h client.Handler) {
			start(t, c)
			connect(t, c)
			for _, s := range must1(c.SubscribeAll(t.Context(), allFilters(h))) {
				if s.State != client.SubscriptionActive {
					t.Fatalf("%+v", s)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := must1(mqtttest.New(mqtttest.Options{}))
			t.Cleanup(func() { _ = b.Close() })
			c := mustNew(t, testConfig("sub", &recorder{}, b.Dial))
			var n atomic.Int64
			begin := time.Now()
			declare(t, c, client.HandlerFunc(func(context.Context, *client.Message) error { n.Add(1); return nil }))
			for b.Stats().Subscriptions < manyFilters {
				time.Sleep(time.Millisecond)
			}
			took := time.Since(begin)
			if t.Logf("%v", took); took > bound {
				t.Errorf("it took %v, more than %v", took, bound)
			}
			pub := mustStart(t, testConfig("pub", &recorder{}, b.Dial))
			begin = time.Now()
			for i := range manyFilters {
				publish(t, pub, fmt.Sprintf("devices/%d/x", i), "", client.AtLeastOnce)
			}
			for n.Load() < manyFilters {
				time.Sleep(time.Millisecond)
			}
			rate := manyFilters / time.Since(begin).Seconds()
			if t.Logf("%.0f messages/s", rate); rate < 1000 {
				t.Errorf("%.0f messages/s", rate)
			}
		})
	}
}

func filterNumber(i int) string { return fmt.Sprintf("devices/%d/+", i) }

func allFilters(h client.Handler) (list []client.SubscribeRequest) {
	for i := range manyFilters {
		list = append(list, client.SubscribeRequest{Filter: filterNumber(i), QoS: client.AtLeastOnce, Handler: h})
	}
	return list
}

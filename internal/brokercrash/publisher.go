package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

const topics = 5

// runPublisher publishes until ctx ends. Then it waits until all messages are delivered.
func runPublisher(ctx context.Context, o options) error {
	log, err := persistence.Open(o.dir, persistence.Options{})
	if err != nil {
		return err
	}
	defer log.Close()
	cfg := o.client("publisher", reliability.Backoff{Min: 20 * time.Millisecond, Max: 500 * time.Millisecond})
	cfg.Store.Custom, cfg.Publishing.Sequenced = log, true
	c, err := client.New(cfg)
	if err != nil {
		return err
	}
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for topic := range topics {
		wg.Go(func() {
			publish(ctx, c, fmt.Sprintf("crash/t%d", topic), log.Boot(), topics*time.Second/time.Duration(o.rate))
		})
	}
	wg.Wait()
	drain, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	// Drain waits only a limited time for messages that the server has refused, and closes the
	// client.
	for waiting := true; waiting && drain.Err() == nil; time.Sleep(50 * time.Millisecond) {
		waiting = log.Stats().Pending > 0
	}
	err = c.Drain(drain)
	st := log.Stats()
	fmt.Println("stats", st.Accepted, st.Acked, st.Refused+st.Expired+st.Dropped, st.Pending)
	return err
}

// publish publishes one message per interval, and prints each accepted message.
func publish(ctx context.Context, c *client.Client, topic string, boot uint64, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m := client.Message{Topic: topic, Payload: fmt.Appendf(nil, "%d/%d", boot, n), QoS: client.ExactlyOnce}
		if _, err := c.Publish(context.Background(), m); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Printf("accepted %s %s\n", topic, m.Payload)
	}
}

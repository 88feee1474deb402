// Status shows who is online, live, by the retained status topics that devices
// keep (client.Config.Status).
//
//	go run ./examples/status -broker mqtt://localhost:1883
//
// What to watch for: start examples/device, and it is online at once; end it
// with Ctrl-C, and it is offline at once; kill -9 it, and the broker says
// offline after the will delay; start it again within the delay, and nobody
// ever hears that it was gone. Start this program late, and it knows all the
// same: the topics are retained.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

func main() {
	broker := flag.String("broker", "mqtt://localhost:1883", "the broker")
	filter := flag.String("filter", "devices/+/status", "topics to watch")
	user := flag.String("user", "", "user name; the password comes from $MQTT_PASSWORD")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *broker, *user, *filter); err != nil {
		fmt.Fprintln(os.Stderr, "status:", err)
		os.Exit(1)
	}
}

// board is who is online, since when.
type board struct {
	mu    sync.Mutex
	state map[string]string
}

// set takes a status message and returns the line to print.
func (b *board) set(m *client.Message) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, was := string(m.Payload), b.state[m.Topic]
	if now == "" { // a retained topic that was cleared
		delete(b.state, m.Topic)
		now = "forgotten"
	} else {
		b.state[m.Topic] = now
	}
	online := 0
	for _, s := range b.state {
		if s == "online" {
			online++
		}
	}
	how := ""
	switch {
	case m.Retain:
		how = "  (from before we watched)"
	case was == now:
		how = "  (again)"
	}
	return fmt.Sprintf("%s  %-40s %-10s %d of %d online%s",
		time.Now().Format(time.TimeOnly), strings.TrimSpace(m.Topic), now, online, len(b.state), how)
}

func run(ctx context.Context, broker, user, filter string) error {
	c, err := client.New(client.Config{
		Servers:  []string{broker},
		Username: user,
		Password: []byte(os.Getenv("MQTT_PASSWORD")),
		// A watcher needs no session: the retained topics tell it all.
		SessionExpiry: client.NoSession,
		OnEvent: func(e client.Event) {
			switch e := e.(type) {
			case client.Disconnected:
				if e.Err != nil {
					fmt.Println("our own link is gone, so we know nothing now:", e.Err)
				}
			case client.ConnectFailed:
				fmt.Println("no connection:", e.Err)
			}
		},
	})
	if err != nil {
		return err
	}
	b := &board{state: map[string]string{}}
	show := client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		fmt.Println(b.set(m))
		return nil
	})
	if err := c.Subscribe(ctx, filter, client.AtLeastOnce, show); err != nil {
		return err
	}
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	fmt.Printf("watching %s on %s\n", filter, broker)
	select {
	case <-ctx.Done():
	case <-c.Done(): // it gave up: credentials, for example
	}
	return errors.Join(c.Close(), c.Err())
}

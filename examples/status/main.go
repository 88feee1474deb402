// Status shows who is online, live, by the retained status topics that devices
// keep (client.Config.Presence.Status).
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
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/presence"
)

func main() {
	broker := flag.String("broker", "mqtt://localhost:1883", "the broker")
	filter := flag.String("filter", "devices/+/status", "topics to watch")
	user := flag.String("user", "", "user name; the password comes from $MQTT_PASSWORD")
	flag.Parse()
	// The second signal ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	if err := run(ctx, *broker, *user, *filter); err != nil {
		fmt.Fprintln(os.Stderr, "status:", err)
		os.Exit(1)
	}
}

// line is what there is to say about a change.
func line(c presence.Change, n presence.Counts) string {
	what := ""
	switch c.Kind {
	case presence.Changed:
		d := c.Device
		what = fmt.Sprintf("%-40s %-10s", d.Topic, d.State)
		if d.Status.Reason != "" {
			what += " (" + d.Status.Reason + ")"
		}
		if d.Flaps > 0 {
			what += fmt.Sprintf(" flaps: %d", d.Flaps)
		}
		if c.Initial {
			what += " (from before we watched)"
		}
	case presence.Forgotten:
		what = fmt.Sprintf("%-40s forgotten", c.Device.Topic)
	case presence.ViewStale:
		what = "our own link is gone: what was online is stale"
	case presence.ViewSynced:
		what = "all that is retained is known"
	case presence.ViewFull:
		what = "too many devices: " + c.Device.Topic + " is one more"
	case presence.Missed:
		what = fmt.Sprintf("%d changes are not shown, too slow", c.Missed)
	}
	return fmt.Sprintf("%s  %s  %d online, %d offline, %d stale", c.At.Local().Format(time.TimeOnly), what, n.Online, n.Offline, n.Stale)
}

func run(ctx context.Context, broker, user, filter string) error {
	c, err := client.New(client.Config{
		Servers:    []string{broker},
		Connection: client.ConnectionConfig{Username: user, Password: []byte(os.Getenv("MQTT_PASSWORD"))},
		// A watcher needs no session: the retained topics tell it all.
		Session: client.SessionConfig{Expiry: client.NoSession},
		OnEvent: func(e client.Event) {
			switch e := e.(type) {
			case client.Disconnected:
				if e.Err != nil {
					fmt.Println("our own link is gone:", e.Err)
				}
			case client.ConnectFailed:
				fmt.Println("no connection:", e.Err)
			case client.SubscriptionFailed:
				fmt.Println("nothing to watch:", e.Err)
			}
		},
	})
	if err != nil {
		return err
	}
	w, err := c.WatchStatus(ctx, filter, client.WatchOptions{})
	if err != nil {
		return err
	}
	changes := w.Changes()
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	fmt.Printf("watching %s on %s\n", filter, broker)
	for change := range changes { // ends with ctx, or with the client: credentials, for example
		fmt.Println(line(change, w.Counts()))
	}
	return errors.Join(c.Close(), c.Err())
}

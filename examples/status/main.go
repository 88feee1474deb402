// Status shows live which devices are online. It reads the retained status topics that the
// devices maintain (client.Config.Presence.Status).
//
//	go run ./examples/status -broker mqtt://localhost:1883
//
// To see it work, start examples/device: the device is shown as online at once. End the device
// with Ctrl-C: it is shown as offline at once. End the device with kill -9: the broker publishes
// offline after the will delay. Start the device again within the delay: it stays online. This
// program can start at any time, because the broker retains the status messages.
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
	broker := flag.String("broker", "mqtt://localhost:1883", "URL of the broker")
	filter := flag.String("filter", "devices/+/status", "topic filter of the status topics")
	user := flag.String("user", "", "user name; the password is read from $MQTT_PASSWORD")
	flag.Parse()
	// The first signal stops the program gracefully. A second signal ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	if err := run(ctx, *broker, *user, *filter); err != nil {
		fmt.Fprintln(os.Stderr, "status:", err)
		os.Exit(1)
	}
}

// line returns the line to print for a change.
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
			what += " (retained)"
		}
	case presence.Restarted:
		what = fmt.Sprintf("%-40s restarted  (version %q)", c.Device.Topic, c.Device.Status.Version)
	case presence.Forgotten:
		what = fmt.Sprintf("%-40s forgotten", c.Device.Topic)
	case presence.ViewStale:
		what = "disconnected for too long: online devices are now stale"
	case presence.ViewSynced:
		what = "all retained statuses have been received"
	case presence.ViewFull:
		what = "too many devices: " + c.Device.Topic + " is not shown"
	case presence.Missed:
		what = fmt.Sprintf("%d changes are not shown: the output is too slow", c.Missed)
	}
	return fmt.Sprintf("%s  %s  %d online, %d offline, %d stale", c.At.Local().Format(time.TimeOnly), what, n.Online, n.Offline, n.Stale)
}

func run(ctx context.Context, broker, user, filter string) error {
	c, err := client.New(client.Config{
		Servers:    []string{broker},
		Connection: client.ConnectionConfig{Username: user, Password: []byte(os.Getenv("MQTT_PASSWORD"))},
		// This client needs no session: the broker sends all retained statuses after each connect.
		Session: client.SessionConfig{Expiry: client.NoSession},
		OnEvent: func(e client.Event) {
			switch e := e.(type) {
			case client.Disconnected:
				if e.Err != nil {
					fmt.Println("disconnected:", e.Err)
				}
			case client.ConnectFailed:
				fmt.Println("no connection:", e.Err)
			case client.SubscriptionFailed:
				fmt.Println("subscription failed:", e.Err)
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
	for change := range changes { // until ctx ends or the client stops
		fmt.Println(line(change, w.Counts()))
	}
	return errors.Join(c.Close(), c.Err())
}

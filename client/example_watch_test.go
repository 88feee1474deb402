package client_test

import (
	"context"
	"fmt"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/presence"
)

func ExampleClient_WatchStatus() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()

	watcher, err := client.New(exampleConfig(b, "board"))
	if err != nil {
		panic(err)
	}
	defer watcher.Close()
	w, err := watcher.WatchStatus(ctx, "devices/+/status", client.WatchOptions{})
	if err != nil {
		panic(err)
	}
	changes := w.Changes()
	if err := watcher.Start(ctx); err != nil {
		panic(err)
	}
	if _, err := w.Synced(ctx); err != nil {
		panic(err)
	}

	cfg := exampleConfig(b, "press-4")
	cfg.Presence.Status = &client.Status{Topic: "devices/press-4/status", Structured: true, Version: "1.4.2"}
	device, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	if err := device.Start(ctx); err != nil {
		panic(err)
	}
	for c := range changes {
		if c.Kind != presence.Changed {
			fmt.Println(c.Kind)
			continue
		}
		fmt.Println(c.Device.Topic, c.From, "->", c.Device.State, c.Device.Status.Reason, c.Device.Status.Version)
		if c.Device.State == presence.Offline {
			break
		}
		device.Close()
	}
	n := w.Counts()
	fmt.Println(n.Devices, "device,", n.Online, "online")
	// Output:
	// view synced
	// devices/press-4/status unknown -> online birth 1.4.2
	// devices/press-4/status online -> offline close 1.4.2
	// 1 device, 0 online
}

func ExampleClient_FetchRetained() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	c, err := client.New(exampleConfig(b, "tool"))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	for _, line := range []string{"1", "2"} {
		d, err := c.SetRetained(ctx, "lines/"+line+"/recipe", []byte("steel-"+line))
		if err != nil {
			panic(err)
		}
		if _, err := d.Wait(ctx); err != nil {
			panic(err)
		}
	}
	found, err := c.FetchRetained(ctx, "lines/+/recipe", client.RetainedOptions{})
	if err != nil {
		panic(err)
	}
	for _, m := range found.Messages {
		fmt.Printf("%s: %s\n", m.Topic, m.Payload)
	}
	fmt.Println("the end is known", found.End)
	// Output:
	// lines/1/recipe: steel-1
	// lines/2/recipe: steel-2
	// the end is known by marker
}

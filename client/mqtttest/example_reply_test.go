package mqtttest_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// A PUBACK is lost once, on a connection that goes on. The client connects again after AckTimeout, and
// sends the message again. A test begins with b := mqtttest.Start(t).
func ExampleBroker_Next() {
	b, _ := mqtttest.New(mqtttest.Options{})
	defer b.Close()
	ctx := context.Background()
	lost := b.Next("pump", mqtttest.PUBACK).Swallow()
	c := pump(ctx, b.URL())
	defer c.Close()
	d, _ := c.Publish(ctx, client.Message{Topic: "level", Payload: []byte("42"), QoS: client.AtLeastOnce})
	outcome, err := d.Wait(ctx)
	fmt.Println(lost.Wait(ctx), outcome.State, err, b.Stats().MessagesIn)
	// Output: <nil> acked <nil> 2
}

// pump is the program under test.
func pump(ctx context.Context, server string) *client.Client {
	c, err := client.New(client.Config{Servers: []string{server}, ClientID: "pump", Connection: client.ConnectionConfig{AckTimeout: 100 * time.Millisecond}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	return c
}

// The message is delivered although its PUBACK is lost once.
func TestPump_PubackLostOnce(t *testing.T) {
	b := mqtttest.Start(t)
	lost := b.Next("pump", mqtttest.PUBACK).Swallow()
	c := pump(t.Context(), b.URL())
	defer c.Close()
	d, _ := c.Publish(t.Context(), client.Message{Topic: "level", QoS: client.AtLeastOnce})
	if _, err := d.Wait(t.Context()); err != nil || lost.Wait(t.Context()) != nil || b.Stats().MessagesIn != 2 {
		t.Errorf("%v; the broker got %d messages, want the same one twice", err, b.Stats().MessagesIn)
	}
}

// The broker publishes once the client has subscribed, and waits until nothing is left for the client.
func ExampleBroker_Publish() {
	b, _ := mqtttest.New(mqtttest.Options{})
	defer b.Close()
	ctx := context.Background()
	c := pump(ctx, b.URL())
	defer c.Close()
	_, _ = c.Subscribe(ctx, "command/#", client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		fmt.Println("received:", m.Topic)
		return nil
	}))
	fmt.Println(b.WaitSubscribed(ctx, "pump", "command/#"), b.Subscriptions("pump")[0].Filter)
	fmt.Println(b.Publish(mqtttest.Message{Topic: "command/stop", QoS: 1}))
	fmt.Println(b.WaitFor(ctx, func() bool { return len(b.Queue("pump")) == 0 }))
	// Output:
	// <nil> command/#
	// 1 <nil>
	// received: command/stop
	// <nil>
}

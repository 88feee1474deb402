package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
)

// exampleBroker returns a broker inside the process, for the examples.
func exampleBroker() *mqtttest.Broker {
	b, err := mqtttest.New(mqtttest.Options{NoTCP: true})
	if err != nil {
		panic(err)
	}
	return b
}

// exampleConfig returns a Config that connects to it.
func exampleConfig(b *mqtttest.Broker, id string) client.Config {
	return client.Config{
		Servers:    []string{"mqtt://broker"},
		ClientID:   id,
		Connection: client.ConnectionConfig{Dial: func(context.Context, *url.URL) (net.Conn, error) { return b.Dial(), nil }},
	}
}

func Example() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()

	c, err := client.New(exampleConfig(b, "pump-7"))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	received := make(chan struct{})
	_, err = c.Subscribe(ctx, "pump/+/rpm", client.ExactlyOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		fmt.Printf("%s: %s\n", m.Topic, m.Payload)
		close(received)
		return nil // acknowledges the message
	}))
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}

	// Publish does not wait for the connection. The message is stored, and sent when a connection
	// exists.
	d, err := c.Publish(ctx, client.Message{Topic: "pump/7/rpm", Payload: []byte("1450"), QoS: client.ExactlyOnce})
	if err != nil {
		panic(err)
	}
	outcome, err := d.Wait(ctx)
	fmt.Println("the server:", outcome.State, err)
	<-received
	// Unordered output:
	// the server: acked <nil>
	// pump/7/rpm: 1450
}

// An accepted message survives the process. Here the first client never connects, and the second
// one delivers the message from the same folder.
func Example_restart() {
	dir, err := os.MkdirTemp("", "mooring")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Dir = dir

	first, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	d, err := first.Publish(ctx, client.Message{Topic: "pump/7/alarm", QoS: client.AtLeastOnce})
	if err != nil {
		panic(err)
	}
	if err := first.Close(); err != nil {
		panic(err)
	}
	fmt.Println("first client:", d.Outcome().State)

	second, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	if err := second.Start(ctx); err != nil {
		panic(err)
	}
	err = second.Drain(ctx)
	s := second.Stats().Store
	fmt.Printf("second client: %d accepted, %d acked, %d pending, %v\n", s.Accepted, s.Acked, s.Pending, err)
	// Output:
	// first client: abandoned
	// second client: 1 accepted, 1 acked, 0 pending, <nil>
}

// A refusal is an outcome with a reason code, at QoS 1 and 2.
func ExampleDelivery_Wait() {
	b, err := mqtttest.New(mqtttest.Options{NoTCP: true, Authorize: func(_ context.Context, _, topic string, write bool) byte {
		if write && topic == "admin" {
			return 0x87
		}
		return 0
	}})
	if err != nil {
		panic(err)
	}
	defer b.Close()
	ctx := context.Background()
	c, err := client.New(exampleConfig(b, "pump-7"))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	d, err := c.Publish(ctx, client.Message{Topic: "admin", QoS: client.ExactlyOnce})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err = d.Wait(ctx)
	var deferred *client.DeferredError
	if errors.As(err, &deferred) {
		fmt.Println(err) // the client continues to try
	}
	// Output:
	// client: message deferred: the server refuses it for now with Not authorized (0x87); it is resent until it expires: context deadline exceeded
}

// The status topic shows online or offline correctly, whichever side fails.
func ExampleStatus() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Presence.Status = &client.Status{Topic: "pump/7/status", Delay: 30 * time.Second}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	d, err := c.Publish(ctx, client.Message{Topic: "pump/7/rpm", QoS: client.AtLeastOnce})
	if err != nil {
		panic(err)
	}
	if _, err := d.Wait(ctx); err != nil { // sent after the online status
		panic(err)
	}
	status, _ := b.Retained("pump/7/status")
	fmt.Printf("%s\n", status)
	if err := c.Close(); err != nil {
		panic(err)
	}
	status, _ = b.Retained("pump/7/status")
	fmt.Printf("%s\n", status)
	// Output:
	// online
	// offline
}

// Drain ends a client after all accepted messages have an outcome.
func ExampleClient_Drain() {
	c, err := client.New(client.Config{Servers: []string{"mqtt://server.invalid"}})
	if err != nil {
		panic(err)
	}
	if _, err := c.Publish(context.Background(), client.Message{Topic: "t", QoS: client.AtLeastOnce}); err != nil {
		panic(err)
	}
	if err := c.Start(context.Background()); err != nil { // this server does not exist
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	var left *client.DrainError
	if err := c.Drain(ctx); errors.As(err, &left) { // left.Cause also contains why there is no connection
		fmt.Println(left.Pending, "message stays in the store; in time:", !errors.Is(err, context.DeadlineExceeded))
	}
	// Output:
	// 1 message stays in the store; in time: false
}

// A message that is received twice is handled once.
func ExampleConfig_dedupe() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{})
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	last := make(chan struct{})
	_, err = c.Subscribe(ctx, "orders", client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		fmt.Printf("handled %s\n", m.Payload)
		if string(m.Payload) == "order 18" {
			close(last)
		}
		return nil
	}))
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	for _, order := range []string{"order 17", "order 17", "order 18"} {
		m := client.Message{Topic: "orders", Payload: []byte(order), QoS: client.AtLeastOnce, ID: client.ParseMessageID(order)}
		if _, err := c.Publish(ctx, m); err != nil {
			panic(err)
		}
	}
	<-last
	if err := c.Close(); err != nil {
		panic(err)
	}
	// Output:
	// handled order 17
	// handled order 18
}

func ExampleRefuse() {
	err := client.Refuse(0x99, "not JSON") // returned by a handler
	fmt.Println(err)
	// Output:
	// message refused with reason code 0x99: not JSON
}

// An urgent message overtakes waiting ones. With Conflate, only the newest message of a topic is
// kept while the client is offline.
func ExampleMessage_priority() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	c, err := client.New(exampleConfig(b, "pump-7"))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for i := range 3 { // the client is not connected yet
		_, _ = c.Publish(ctx, client.Message{Topic: "pump/7/log", Payload: fmt.Append(nil, "line ", i), QoS: client.AtLeastOnce})
		_, _ = c.Publish(ctx, client.Message{Topic: "pump/7/rpm", Payload: fmt.Append(nil, "rpm ", 1450+i), QoS: client.AtLeastOnce, Conflate: true})
	}
	_, _ = c.Publish(ctx, client.Message{Topic: "pump/7/alarm", Payload: []byte("overheated"), QoS: client.ExactlyOnce, Priority: client.Urgent})

	received := make(chan string, 10)
	cfg := exampleConfig(b, "board")
	cfg.Receiving.OrderingKey = func(*client.Message) string { return "" } // one queue for all messages keeps their order
	board, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer board.Close()
	if err := board.Start(ctx); err != nil {
		panic(err)
	}
	if err := board.AwaitConnection(ctx); err != nil {
		panic(err)
	}
	_, err = board.Subscribe(ctx, "pump/#", client.ExactlyOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		received <- string(m.Payload)
		return nil
	}))
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	for range 5 {
		fmt.Println(<-received)
	}
	// Output:
	// overheated
	// line 0
	// line 1
	// line 2
	// rpm 1452
}

// Refused messages are kept as dead letters. The outcome of every message can be queried later,
// also by another process.
func ExampleClient_DeadLetters() {
	b, err := mqtttest.New(mqtttest.Options{NoTCP: true, MaximumPacketSize: 200})
	if err != nil {
		panic(err)
	}
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Store.DeadLetters = 100
	cfg.Store.Options.Retention.MaxReceipts = 100_000
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	d, err := c.Publish(ctx, client.Message{Topic: "pump/7/image", Payload: make([]byte, 500), QoS: client.ExactlyOnce})
	if err != nil {
		panic(err)
	}
	_, err = d.Wait(ctx)
	fmt.Println(err)
	receipt, known, err := c.Receipt(ctx, d.ID)
	fmt.Println(receipt.Outcome.State, known, err)
	for letter, err := range c.DeadLetters() {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s: %d bytes\n", letter.Message.Topic, len(letter.Message.Payload))
		letter.Message.Payload = letter.Message.Payload[:50]
		again, err := c.Redeliver(ctx, letter)
		if err != nil {
			panic(err)
		}
		outcome, err := again.Wait(ctx)
		fmt.Println(outcome.State, err)
	}
	// Output:
	// client: refused by the server: Packet too large (0x95): larger than the server's Maximum Packet Size; send a smaller message
	// dead-lettered true <nil>
	// pump/7/image: 500 bytes
	// acked <nil>
}

// The publishers are not mooring clients. Their JSON payloads have an "id".
func ExampleKeyByJSON() {
	var cfg client.Config
	cfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{})
	cfg.Receiving.DedupeKey = client.RequireKey(client.KeyByJSON("id")) // sets messages without an id aside

	for _, payload := range []string{`{"id": 9007199254740993, "valve": "open"}`, `{"valve": "open"}`} {
		fmt.Println(cfg.Receiving.DedupeKey(&client.Message{Topic: "valves", Payload: []byte(payload)}))
	}
	// Output:
	// 9007199254740993 <nil>
	//  client: message has no dedupe key; correct the publisher, or choose another KeyFunc
}

package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/persistence"
)

// A device without a connection keeps the newest readings. Alarms have a part of the space for
// themselves and are never dropped.
func ExampleStoreConfig() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Store.WhenFull = client.DropOldest
	cfg.Store.Options.Limits = persistence.Limits{MaxMessages: 10, Reserved: 20} // percent, for High and Urgent
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for n := range 100 {
		m := client.Message{Topic: "pump/7/rpm", Payload: fmt.Append(nil, n), QoS: client.AtLeastOnce}
		if n == 0 {
			m = client.Message{Topic: "pump/7/alarm", QoS: client.AtLeastOnce, Priority: client.High}
		}
		if _, err := c.Publish(ctx, m); err != nil {
			panic(err)
		}
	}
	s := c.Stats().Store
	fmt.Printf("%d readings and %d alarm wait, %d readings were dropped\n", s.PendingOf[client.Normal], s.PendingOf[client.High], s.DroppedOldest)
	// Output:
	// 7 readings and 1 alarm wait, 92 readings were dropped
}

// A status line needs one argument for the counters and one for the connection.
func ExampleStats_LogValue() {
	b := exampleBroker()
	defer b.Close()
	c, err := client.New(exampleConfig(b, "pump-7"))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for _, p := range []client.Priority{client.Normal, client.High} {
		if _, err := c.Publish(context.Background(), client.Message{Topic: "pump/7/rpm", Payload: []byte("900"), QoS: client.AtLeastOnce, Priority: p}); err != nil {
			panic(err)
		}
	}
	withoutTimes := func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindTime || a.Key == "disk_bytes" {
			return slog.Attr{} // they change from run to run
		}
		return a
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTimes}))
	logger.Info("status", "state", c.State(), "stats", c.Stats())
	// Output:
	// level=INFO msg=status state.phase=idle stats.pending=2 stats.in_flight=0 stats.acked=0 stats.handled=0 stats.pending_bytes=130 stats.pending_high=1
}

// By default, a message that the server refuses for a while is sent again until it is accepted. A
// rule selects which messages are given up.
func ExampleRefusalRule() {
	busy := func(_ context.Context, _, topic string, write bool) byte {
		if write && topic == "pump/7/preview" {
			return 0x97 // quota exceeded
		}
		return 0
	}
	b, err := mqtttest.New(mqtttest.Options{NoTCP: true, Authorize: busy})
	if err != nil {
		panic(err)
	}
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Publishing.Refusals = []client.RefusalRule{{Filter: "pump/+/preview", Action: client.GiveUp}}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	d, err := c.Publish(ctx, client.Message{Topic: "pump/7/preview", QoS: client.AtLeastOnce})
	if err != nil {
		panic(err)
	}
	outcome, err := d.Wait(ctx)
	var refused *client.RefusedError
	fmt.Println(outcome.State, errors.As(err, &refused))
	// Output:
	// refused true
}

// A later process finds out what became of a message by its ID.
func ExampleClient_Receipt() {
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
	cfg.Store.Options.Retention.MaxReceipts = 100_000 // of messages that have ended

	first, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	d, err := first.Publish(ctx, client.Message{Topic: "pump/7/report", QoS: client.AtLeastOnce})
	if err != nil {
		panic(err)
	}
	if err := errors.Join(first.Start(ctx), first.Drain(ctx)); err != nil {
		panic(err)
	}

	second, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer second.Close()
	receipt, known, err := second.Receipt(ctx, d.ID) // the application has stored d.ID
	fmt.Println(receipt.Outcome.State, known, err)
	// Output:
	// acked true <nil>
}

// A pending message can be canceled until it is sent.
func ExampleClient_Cancel() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Servers = []string{"mqtt://127.0.0.1:1"} // nobody answers, so the message waits
	cfg.Connection.Dial = nil
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	d, err := c.Publish(ctx, client.Message{Topic: "pump/7/start", QoS: client.ExactlyOnce})
	if err != nil {
		panic(err)
	}
	canceled, err := c.Cancel(ctx, d.ID)
	fmt.Println(canceled, err)
	fmt.Println(d.Outcome().State, errors.Is(d.Outcome().Err, client.ErrCancelled))
	// Output:
	// true <nil>
	// dropped true
}

// A message that its handler cannot handle is set aside. It is acknowledged, so later messages
// arrive, and it is kept until it is redelivered or discarded.
func ExampleClient_SetAside() {
	dir, err := os.MkdirTemp("", "mooring")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "backend")
	cfg.Dir = dir
	setAside := make(chan struct{})
	cfg.OnEvent = func(e client.Event) {
		if _, ok := e.(client.MessageSetAside); ok {
			close(setAside)
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	mended, handled := false, make(chan struct{})
	_, err = c.Subscribe(ctx, "orders/#", client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		if !mended {
			return client.Permanent(errors.New("unknown currency"))
		}
		fmt.Printf("handled %s: %s\n", m.Topic, m.Payload)
		close(handled)
		return nil
	}))
	if err := errors.Join(err, c.Start(ctx)); err != nil {
		panic(err)
	}
	if _, err := c.Publish(ctx, client.Message{Topic: "orders/17", Payload: []byte("5 XYZ"), QoS: client.AtLeastOnce}); err != nil {
		panic(err)
	}
	<-setAside
	mended = true // a new version of the handler
	for m, err := range c.SetAside().All() {
		if err != nil {
			panic(err)
		}
		fmt.Printf("set aside: %s: %s\n", m.Message.Topic, m.Err)
		if err := c.SetAside().Redeliver(m.ID); err != nil {
			panic(err)
		}
	}
	<-handled
	// Output:
	// set aside: orders/17: permanent: unknown currency
	// handled orders/17: 5 XYZ
}

// Two backends share the messages of a filter. The server sends each message to one of them.
func ExampleClient_Subscribe_shared() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	got := make(chan string)
	for _, id := range []string{"backend-1", "backend-2"} {
		c, err := client.New(exampleConfig(b, id))
		if err != nil {
			panic(err)
		}
		defer c.Close()
		if err := errors.Join(c.Start(ctx), c.AwaitConnection(ctx)); err != nil {
			panic(err)
		}
		handle := client.HandlerFunc(func(_ context.Context, m *client.Message) error {
			got <- string(m.Payload)
			return nil
		})
		if _, err := c.Subscribe(ctx, "$share/backends/orders/#", client.AtLeastOnce, handle); err != nil {
			panic(err)
		}
	}
	for n := range 4 {
		if _, err := b.Publish(mqtttest.Message{Topic: "orders/17", Payload: fmt.Append(nil, "order ", n), QoS: 1}); err != nil {
			panic(err)
		}
	}
	for range 4 {
		fmt.Println(<-got)
	}
	// Unordered output:
	// order 0
	// order 1
	// order 2
	// order 3
}

// Two devices were cloned from one image and number their messages under the same name. The backend
// handles all messages, because their IDs differ, and reports the second use of a number.
func ExampleNumberReused() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	told := make(chan string, 2)
	cfg := exampleConfig(b, "backend")
	cfg.Receiving.Ordering = &client.Ordering{}
	cfg.OnEvent = func(e client.Event) {
		if reused, ok := e.(client.NumberReused); ok {
			told <- fmt.Sprintf("number %d of %s was used before", reused.Message.Origin.Seq, reused.Message.Origin.Publisher)
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := errors.Join(c.Start(ctx), c.AwaitConnection(ctx)); err != nil {
		panic(err)
	}
	handled := make(chan string, 2)
	_, err = c.Subscribe(ctx, "plant/temp", client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		handled <- string(m.Payload)
		return nil
	}))
	if err != nil {
		panic(err)
	}
	for _, device := range []string{"the original", "the clone"} {
		_, err := b.Publish(mqtttest.Message{Topic: "plant/temp", Payload: []byte(device), QoS: 1, User: []mqtttest.UserProperty{
			{Key: "m-id", Value: client.NewMessageID().String()},
			{Key: "m-pub", Value: "press-7"}, {Key: "m-epoch", Value: "1"}, {Key: "m-seq", Value: "1"},
		}})
		if err != nil {
			panic(err)
		}
	}
	fmt.Println(<-handled)
	fmt.Println(<-handled)
	fmt.Println(<-told)
	// Output:
	// the original
	// the clone
	// number 1 of press-7 was used before
}

// Every loss is an event, a counter and a line in the log.
func ExampleConfig_onEvent() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Store.WhenFull = client.DropNewest
	cfg.Store.Options.Limits.MaxMessages = 2
	lost := make(chan client.MessageDropped, 10)
	cfg.OnEvent = func(e client.Event) {
		if dropped, ok := e.(client.MessageDropped); ok {
			lost <- dropped
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for range 3 {
		if _, err := c.Publish(ctx, client.Message{Topic: "pump/7/rpm", QoS: client.AtLeastOnce}); err != nil {
			panic(err)
		}
	}
	fmt.Println("dropped:", (<-lost).Topic)
	s := c.Stats().Store
	fmt.Println(s.Accepted == s.Acked+s.Refused+s.Expired+s.Dropped+s.DeadLettered+s.Pending)
	// Output:
	// dropped: pump/7/rpm
	// true
}

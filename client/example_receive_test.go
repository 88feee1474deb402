package client_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/ordering"
)

// Messages of a sequenced publisher are handled in the order of their numbers, and a missing number
// is reported. Here a device with another library numbers its messages with user properties, as in
// docs/wire.md. Number 2 is lost.
func ExampleOrdering() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()

	cfg := exampleConfig(b, "backend")
	cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{GapTimeout: 100 * time.Millisecond}} // default 5 s
	told := make(chan string, 10)
	cfg.OnEvent = func(e client.Event) {
		if gap, ok := e.(client.Gap); ok {
			told <- fmt.Sprintf("%d to %d of %s on %s are missing", gap.From, gap.To, gap.Publisher, gap.Topic)
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	if err := c.AwaitConnection(ctx); err != nil {
		panic(err)
	}
	_, err = c.Subscribe(ctx, "plant/#", client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		told <- fmt.Sprintf("number %d: %s", m.Origin.Seq, m.Payload)
		return nil
	}))
	if err != nil {
		panic(err)
	}

	// The device numbers its messages with another library, as docs/wire.md describes.
	device := paho.NewClient(paho.ClientConfig{Conn: b.Dial()})
	if _, err := device.Connect(ctx, &paho.Connect{ClientID: "press-7", CleanStart: true, KeepAlive: 30}); err != nil {
		panic(err)
	}
	defer func() { _ = device.Disconnect(&paho.Disconnect{}) }()
	for _, number := range []string{"1", "4", "3"} { // 4 waits for 2 and 3
		_, err := device.Publish(ctx, &paho.Publish{
			Topic: "plant/temp", Payload: []byte("reading " + number), QoS: 1,
			Properties: &paho.PublishProperties{User: paho.UserProperties{
				{Key: "m-pub", Value: "press-7"}, {Key: "m-epoch", Value: "1"}, {Key: "m-seq", Value: number},
			}},
		})
		if err != nil {
			panic(err)
		}
	}
	for range 4 {
		fmt.Println(<-told)
	}
	// Unordered output:
	// number 1: reading 1
	// 2 to 2 of press-7 on plant/temp are missing
	// number 3: reading 3
	// number 4: reading 4
}

// A middleware wraps every handler, like in net/http.
func ExampleMiddleware() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	ended := make(chan struct{})
	cfg.Receiving.Middleware = []client.Middleware{func(next client.Handler) client.Handler {
		return client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			err := next.Handle(ctx, m)
			fmt.Println(m.Topic, "->", err)
			close(ended)
			return err
		})
	}}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	_, err = c.Subscribe(ctx, "pump/7/set", client.ExactlyOnce, client.HandlerFunc(func(context.Context, *client.Message) error {
		return client.Refuse(0x99, "not a number")
	}))
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	if _, err := c.Publish(ctx, client.Message{Topic: "pump/7/set", Payload: []byte("fast"), QoS: client.ExactlyOnce}); err != nil {
		panic(err)
	}
	<-ended
	// Output:
	// pump/7/set -> message refused with reason code 0x99: not a number
}

// sharedKey proves knowledge of a key without sending it: it answers the server's challenge with an
// HMAC.
type sharedKey struct {
	user string
	key  []byte
}

func (k sharedKey) Method() string                        { return "HMAC-SHA-256" }
func (k sharedKey) Start(context.Context) ([]byte, error) { return []byte(k.user), nil }

func (k sharedKey) Continue(_ context.Context, challenge []byte) ([]byte, error) {
	if len(challenge) < 16 {
		return nil, errors.New("the challenge is too short to be one")
	}
	h := hmac.New(sha256.New, k.key)
	h.Write(challenge)
	return h.Sum(nil), nil
}

func (k sharedKey) Done(context.Context, []byte) error { return nil } // the server proves nothing in this method

// Enhanced authentication requires a server that supports the same method. The Authenticator can be
// tested without one.
func ExampleAuthenticator() {
	cfg := client.Config{
		Servers:    []string{"mqtts://broker.example"},
		ClientID:   "pump-7",
		Connection: client.ConnectionConfig{Auth: sharedKey{user: "pump-7", key: []byte("secret")}},
	}
	fmt.Println(cfg.Validate(), cfg.Connection.Auth.Method())
	answer, err := cfg.Connection.Auth.Continue(context.Background(), []byte("sixteen bytes or more"))
	fmt.Printf("%x… %v\n", answer[:4], err)
	// Output:
	// <nil> HMAC-SHA-256
	// 7d4ae922… <nil>
}

// A local copy of retained messages is kept up to date, and is searched with topic filters.
func ExampleClient_MirrorRetained() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	c, err := client.New(exampleConfig(b, "controller"))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	view, err := c.MirrorRetained(ctx, "recipes/#", client.RetainedOptions{})
	if err != nil {
		panic(err)
	}
	changes := view.Changes() // changes from now on
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	if _, err := view.Synced(ctx); err != nil { // no message is retained yet
		panic(err)
	}
	if _, err := c.SetRetained(ctx, "recipes/steel/1", []byte("hot")); err != nil {
		panic(err)
	}
	for change := range changes {
		if change.Kind == client.RetainedSet {
			break // the message is in the view
		}
	}
	found, err := view.Match("recipes/+/1")
	if err != nil {
		panic(err)
	}
	for _, m := range found {
		fmt.Printf("%s: %s\n", m.Topic, m.Payload)
	}
	// Output:
	// recipes/steel/1: hot
}

// A client disconnects and makes the server publish its will, for example when a machine is taken
// out of service.
func ExampleClient_CloseWith() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()
	cfg := exampleConfig(b, "pump-7")
	cfg.Presence.Will = &client.Will{Topic: "pump/7/alive", Payload: []byte("no"), QoS: client.AtLeastOnce, Retain: true}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	if err := c.AwaitConnection(ctx); err != nil {
		panic(err)
	}
	if err := c.CloseWith(client.DisconnectOptions{Reason: 0x04, SessionExpiry: client.NoSession}); err != nil {
		panic(err)
	}
	if err := b.WaitFor(ctx, func() bool { _, ok := b.Retained("pump/7/alive"); return ok }); err != nil {
		panic(err)
	}
	will, _ := b.Retained("pump/7/alive")
	fmt.Printf("%s, the session is kept: %v\n", will, b.Session("pump-7"))
	// Output:
	// no, the session is kept: false
}

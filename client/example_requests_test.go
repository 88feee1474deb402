package client_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// caller sends requests and waits for responses. A request has a Response Topic and Correlation
// Data. The response contains the same Correlation Data.
type caller struct {
	c       *client.Client
	answers string // Response Topic, used by this client only

	mu      sync.Mutex
	waiting map[string]chan []byte // by Correlation Data
}

// Handle receives a response. It also accepts a response for which no request waits, so that the
// server discards it.
func (r *caller) Handle(_ context.Context, m *client.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if answer, ok := r.waiting[string(m.CorrelationData)]; ok {
		answer <- m.Payload // has space for one
		delete(r.waiting, string(m.CorrelationData))
	}
	return nil
}

// Ask waits for the response until ctx ends. The request expires after timeout, so that it is not
// handled when the caller no longer waits.
func (r *caller) Ask(ctx context.Context, topic string, payload []byte, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	id := client.NewMessageID()
	answer := make(chan []byte, 1)
	r.mu.Lock()
	r.waiting[string(id[:])] = answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, string(id[:]))
	}()
	_, err := r.c.Publish(ctx, client.Message{
		Topic: topic, Payload: payload, QoS: client.AtLeastOnce, Expiry: timeout,
		ResponseTopic: r.answers, CorrelationData: id[:],
	})
	if err != nil {
		return nil, err
	}
	select {
	case payload := <-answer:
		return payload, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// A request and its response (section 4.10 of MQTT 5). The handler of the request publishes the
// response, which is stored before the request is acknowledged. After a crash between the two, the
// request is redelivered.
func Example_request() {
	b := exampleBroker()
	defer b.Close()
	ctx := context.Background()

	pump, err := client.New(exampleConfig(b, "pump-7"))
	if err != nil {
		panic(err)
	}
	defer pump.Close()
	if err := pump.Start(ctx); err != nil {
		panic(err)
	}
	if err := pump.AwaitConnection(ctx); err != nil {
		panic(err)
	}
	// While connected, Subscribe waits for the server's answer. From now on no request is lost.
	_, err = pump.Subscribe(ctx, "pump/7/get", client.AtLeastOnce, client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
		if m.ResponseTopic == "" {
			return client.Refuse(0x83, "no Response Topic")
		}
		_, err := pump.Publish(ctx, client.Message{
			Topic: m.ResponseTopic, CorrelationData: m.CorrelationData, QoS: client.AtLeastOnce,
			Payload: fmt.Appendf(nil, "%s is 1450", m.Payload),
		})
		return err // after an error, the request is handled again
	}))
	if err != nil {
		panic(err)
	}

	c, err := client.New(exampleConfig(b, "operator"))
	if err != nil {
		panic(err)
	}
	defer c.Close()
	r := &caller{c: c, answers: "answers/" + c.ClientID(), waiting: map[string]chan []byte{}}
	// Subscribe before Start is sent before the first message.
	if _, err := c.Subscribe(ctx, r.answers, client.AtLeastOnce, r); err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	answer, err := r.Ask(ctx, "pump/7/get", []byte("rpm"), 5*time.Second)
	fmt.Printf("%s, %v\n", answer, err)
	_, err = r.Ask(ctx, "pump/8/get", []byte("rpm"), 50*time.Millisecond)
	fmt.Println(err)
	// Output:
	// rpm is 1450, <nil>
	// context deadline exceeded
}

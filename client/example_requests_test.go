package client_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// caller asks and waits for answers: the request has a Response Topic and
// Correlation Data, and the answer brings the Correlation Data back.
type caller struct {
	c       *client.Client
	answers string // the Response Topic, of this client alone

	mu      sync.Mutex
	waiting map[string]chan []byte // by Correlation Data
}

// Handle takes an answer. One that nobody waits for any more is accepted too, so
// that the server forgets it.
func (r *caller) Handle(_ context.Context, m *client.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if answer, ok := r.waiting[string(m.CorrelationData)]; ok {
		answer <- m.Payload // has room for one
		delete(r.waiting, string(m.CorrelationData))
	}
	return nil
}

// Ask waits for the answer until ctx ends. The request expires when patience is
// over, so that nobody acts on it whom we do not listen to any more.
func (r *caller) Ask(ctx context.Context, topic string, payload []byte, patience time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
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
		Topic: topic, Payload: payload, QoS: client.AtLeastOnce, Expiry: patience,
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

// A request and its answer (section 4.10 of MQTT 5). The answer is published by the
// handler of the request, and is stored before the request is acknowledged: a crash
// in between brings the request again.
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
	// Connected, Subscribe waits for the server's answer: from here on no request
	// is lost for want of a subscriber.
	_, err = pump.Subscribe(ctx, "pump/7/get", client.AtLeastOnce, client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
		if m.ResponseTopic == "" {
			return client.Refuse(0x83, "no Response Topic")
		}
		_, err := pump.Publish(ctx, client.Message{
			Topic: m.ResponseTopic, CorrelationData: m.CorrelationData, QoS: client.AtLeastOnce,
			Payload: fmt.Appendf(nil, "%s is 1450", m.Payload),
		})
		return err // an error: the request is handled again
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
	// Before Start: it is made before the first message leaves.
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

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

// bed is a broker process, a publisher process, and a receiver. The receiver is a client in this
// process or the subscriber process.
type bed struct {
	o         options
	dir       string
	referee   *referee
	broker    *broker
	link      *mqtttest.Proxy // of the publisher
	publisher *process
	receiver  *client.Client

	subscriber *process        // nil: the receiver is used
	subLink    *mqtttest.Proxy // of the subscriber
}

// withSubscriber reports whether the receiving side is a separate process.
func (b *bed) withSubscriber() bool { return b.o.scenario == "subscriber" || b.o.scenario == "all" }

func run(ctx context.Context, o options) (err error) {
	b := &bed{o: o, referee: newReferee(o.verbose)}
	if b.dir, err = os.MkdirTemp("", "brokercrash-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.broker, err = newBroker(o, b.dir); err != nil {
		return err
	}
	if err := b.broker.start(ctx); err != nil {
		return err
	}
	defer func() { b.broker.p.kill() }()
	if b.link, err = mqtttest.NewProxy("127.0.0.1:0", b.broker.addr); err != nil {
		return err
	}
	defer b.link.Close()
	b.link.Delay(b.o.delay, b.o.delay/10)
	b.link.OnPacket(b.referee.packet)
	end, err := b.startReceiving(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := b.startPublisher(); err != nil {
		return err
	}
	defer func() { b.publisher.kill() }()
	for n := range o.rounds {
		if err := b.round(ctx); err != nil {
			return fmt.Errorf("round %d: %w", n+1, err)
		}
		if o.verbose {
			fmt.Println("round", n+1, "done")
		}
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	begin := time.Now()
	drained := b.publisher.stop()
	took := time.Since(begin)
	if err := b.settle(ctx); err != nil {
		return err
	}
	return b.verdict(drained, took)
}

// startReceiving starts the receiver or the subscriber.
func (b *bed) startReceiving(ctx context.Context) (end func(), err error) {
	if !b.withSubscriber() {
		if err := b.startReceiver(ctx); err != nil {
			return nil, err
		}
		return func() { _ = b.receiver.Close() }, nil
	}
	if b.subLink, err = mqtttest.NewProxy("127.0.0.1:0", b.broker.addr); err != nil {
		return nil, err
	}
	b.subLink.OnPacket(b.referee.subscriberPacket)
	if err := b.startSubscriber(); err != nil {
		return nil, err
	}
	select {
	case <-b.referee.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(20 * time.Second):
		return nil, errors.New("the subscriber does not subscribe")
	}
	return func() {
		b.subscriber.kill()
		_ = b.subLink.Close()
	}, nil
}

func (b *bed) subscriberDir() string { return filepath.Join(b.dir, "subscriber") }

func (b *bed) startSubscriber() (err error) {
	b.subscriber, err = b.startSelf("subscriber", b.referee.subscriberSays, b.subLink.URL(), b.subscriberDir())
	return err
}

func (b *bed) startReceiver(ctx context.Context) (err error) {
	b.receiver, err = client.New(client.Config{
		Servers:  []string{"mqtt://" + b.broker.addr},
		ClientID: "receiver",
		Receiving: client.ReceivingConfig{
			Dedupe:   dedupe.NewMemory(dedupe.Options{}),
			Ordering: &client.Ordering{Options: ordering.Options{Start: ordering.FromOne, GapTimeout: 10 * time.Second}},
		},
		Connection: client.ConnectionConfig{Backoff: reliability.Backoff{Min: 10 * time.Millisecond, Max: 200 * time.Millisecond}},
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	handler := client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		b.referee.received(m.Topic, m.Payload)
		return nil
	})
	if err := b.receiver.Start(context.Background()); err != nil {
		return err
	}
	_, err = b.receiver.Subscribe(ctx, "crash/#", client.ExactlyOnce, handler)
	return err
}

func (b *bed) startPublisher() (err error) {
	b.publisher, err = b.startSelf("publisher", b.referee.publisherSays, b.link.URL(), filepath.Join(b.dir, "publisher"))
	return err
}

// startSelf starts this program as a child process.
func (b *bed) startSelf(role string, line func(string), server, dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-role", role, "-server", server, "-dir", dir, "-rate", fmt.Sprint(b.o.rate)}
	if b.o.verbose {
		args = append(args, "-v")
	}
	return start(line, self, args...)
}

// kill kills the processes of the scenario together, and restarts all of them except the broker.
func (b *bed) kill() error {
	list := []*process{b.broker.p}
	if b.o.scenario == "both" || b.o.scenario == "all" {
		list = append(list, b.publisher)
	}
	if b.withSubscriber() {
		list = append(list, b.subscriber)
	}
	rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	killTogether(list...)
	if b.withSubscriber() {
		if err := b.startSubscriber(); err != nil {
			return err
		}
	}
	if b.o.scenario == "both" || b.o.scenario == "all" {
		return b.startPublisher()
	}
	return nil
}

// round kills the broker once, and returns when the broker has accepted a message again.
func (b *bed) round(ctx context.Context) error {
	if err := pause(ctx, b.o.running); err != nil {
		return err
	}
	if b.o.scenario == "rollback" {
		if err := b.broker.save(); err != nil {
			return err
		}
		if err := pause(ctx, b.o.running); err != nil {
			return err
		}
	}
	if err := b.kill(); err != nil {
		return err
	}
	if b.o.scenario == "rollback" {
		if err := b.broker.rollBack(); err != nil {
			return err
		}
	}
	if err := b.broker.start(ctx); err != nil {
		return err
	}
	b.referee.brokerUp()
	for end := time.Now().Add(time.Minute); !b.referee.hasResumed(); {
		if time.Now().After(end) {
			return errors.New("the broker has accepted no message for a minute")
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the receiver has all messages or gets no more.
func (b *bed) settle(ctx context.Context) error {
	const quiet = 22 * time.Second // more than twice the gap timeout
	for have, end := b.referee.count(), time.Now().Add(quiet); time.Now().Before(end); {
		if b.withSubscriber() {
			if err := b.referee.follow(b.subscriberDir()); err != nil {
				return err
			}
		}
		if lost, forgotten := b.referee.missing(); len(lost)+len(forgotten) == 0 {
			return nil
		}
		if n := b.referee.count(); n > have {
			have, end = n, time.Now().Add(quiet)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// verdict prints the result.
func (b *bed) verdict(drained error, took time.Duration) error {
	lost, forgotten := b.referee.missing()
	swallowed := b.referee.swallowed()
	r := b.referee
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.resumed)
	var accepted, acked, failed, pending uint64
	_, err := fmt.Sscan(r.stats, &accepted, &acked, &failed, &pending)
	fmt.Printf("%s, %s, %d rounds: %d accepted, %d received\n", b.o.broker, b.o.scenario, b.o.rounds, len(r.accepted), len(r.got))
	fmt.Printf("lost by the client %d, doubled %d, out of order %d, pending %d, failed %d\n", len(lost), len(r.doubled), len(r.wrong), pending, failed)
	fmt.Printf("acknowledged by the broker and not there any more %d\n", len(forgotten))
	if b.withSubscriber() {
		fmt.Printf("acknowledged by the subscriber and not handled %d (of %d), refused %d, handled without a committed key at a kill %d, most in flight to it %d\n",
			len(swallowed), len(r.handled), r.denied, r.repaired, r.mostOpen)
	}
	fmt.Printf("refused PUBLISHes %v, PUBRELs for unknown exchanges %d\n", r.refused, r.purged)
	if n := len(r.resumed); n > 0 {
		fmt.Printf("publishing resumed after %v (median), %v (longest); drained in %v\n", r.resumed[n/2].Round(time.Millisecond), r.resumed[n-1].Round(time.Millisecond), took.Round(time.Millisecond))
	}
	for _, list := range [][]string{lost, r.doubled, r.wrong, swallowed} {
		fmt.Println(list[:min(len(list), 10)])
	}
	if drained != nil || err != nil {
		return fmt.Errorf("the publisher: %w", errors.Join(drained, err))
	}
	slow := len(r.resumed) > 0 && r.resumed[len(r.resumed)/2] > 2*time.Second
	if len(lost)+len(r.doubled)+len(r.wrong)+len(swallowed) > 0 || r.denied > 0 || pending+failed > 0 || slow || b.o.broker == "mqtttest" && b.o.scenario != "rollback" && len(forgotten) > 0 {
		return errBroken
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

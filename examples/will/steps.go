package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// step is one step of a case.
type step func(*scene) error

// connect connects the device with its will.
func connect(s *scene) error {
	s.announce()
	if s.device.raw || s.device.v311 {
		return s.connectPeer()
	}
	c, err := s.start(s.deviceConfig())
	s.client = c
	return err
}

func (s *scene) announce() {
	d := s.device
	switch {
	case s.onStep == nil:
	case d.v311:
		s.printf("%s connects by MQTT 3.1.1 with Clean Session 0 and the will %q on %s.", s.id, offline, s.topic)
	case d.status:
		s.printf("%s connects with Session Expiry Interval %d s; client.Status sets the retained will %q and publishes \"online\".", s.id, d.expiry, offline)
	default:
		retain := ""
		if d.retain {
			retain = ", Will Retain 1"
		}
		s.printf("%s connects with Session Expiry Interval %d s and the will %q on %s, Will Delay Interval %d s%s.", s.id, d.expiry, offline, s.topic, d.delay, retain)
	}
}

func (s *scene) dialPeer() (*peer, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	p, err := dialPeer(ctx, s.broker)
	if err == nil {
		s.later(p.close)
	}
	return p, err
}

func (s *scene) connectPeer() error {
	p, err := s.dialPeer()
	if err != nil {
		return err
	}
	s.peer = p
	c := control.Connect{ClientID: s.id, KeepAlive: 60, SessionExpiry: s.device.expiry,
		HasUsername: s.broker.user != "", Username: s.broker.user, Password: s.broker.password,
		Will: &control.Will{QoS: 1, Topic: s.topic, Payload: []byte(offline), Delay: s.device.delay}}
	if s.device.v311 {
		return p.connect311(c)
	}
	return p.connect(c)
}

// cut ends the connection without a DISCONNECT.
func cut(s *scene) error {
	s.printf("Its link is cut: the connection ends without a DISCONNECT.")
	s.end()
	if s.peer != nil {
		s.peer.close()
	} else {
		s.line.cut()
	}
	return nil
}

// back reconnects the device and resumes its session.
func back(s *scene) error {
	if s.peer != nil {
		s.printf("It reconnects with Clean Session 0.")
		return s.connectPeer()
	}
	s.printf("The link works again, and the mooring client reconnects by itself with Clean Start 0.")
	s.line.restore()
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	return s.client.AwaitConnection(ctx)
}

func pause(d time.Duration) step {
	return func(s *scene) error {
		s.printf("%v pass.", d)
		select {
		case <-time.After(d):
		case <-s.ctx.Done():
		}
		return nil
	}
}

// successor connects another client with the device's Client Identifier and without a will. With Clean
// Start 0 it is a raw client, because a mooring client discards a session that it does not know.
func successor(cleanStart bool) step {
	return func(s *scene) error {
		if cleanStart {
			s.printf("A client with the same Client Identifier connects with Clean Start 1 and without a will.")
			cfg := s.config(s.id)
			cfg.Session.CleanStart = true
			_, err := s.start(cfg)
			return err
		}
		s.printf("A client with the same Client Identifier connects with Clean Start 0 and without a will.")
		p, err := s.dialPeer()
		if err != nil {
			return err
		}
		return p.connect(control.Connect{ClientID: s.id, KeepAlive: 60, SessionExpiry: s.device.expiry,
			HasUsername: s.broker.user != "", Username: s.broker.user, Password: s.broker.password})
	}
}

// takeover connects a successor while the device is connected.
func takeover(cleanStart bool) step {
	return func(s *scene) error {
		s.line.refuse() // otherwise the two clients would take over the session from each other repeatedly
		s.end()
		if err := successor(cleanStart)(s); err != nil {
			return err
		}
		select {
		case err := <-s.ended:
			var closed *client.ConnectionError
			if errors.As(err, &closed) && closed.Code == wire.ReasonSessionTakenOver {
				s.printf("The first connection receives DISCONNECT 0x8E, Session taken over.")
				s.fact(sawTakeover)
			} else {
				s.printf("The first connection ends without 0x8E: %v.", err)
				s.fact(noTakeover)
			}
		case <-time.After(timeout):
			s.fact("the old connection does not end")
		}
		return nil
	}
}

// leave ends the device's connection with a DISCONNECT.
func leave(reason byte) step {
	return func(s *scene) error {
		s.printf("It leaves with DISCONNECT 0x%02X.", reason)
		s.end()
		if s.peer == nil {
			return s.client.CloseWith(client.DisconnectOptions{Reason: reason})
		}
		err := s.peer.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: reason}))
		s.peer.close()
		return err
	}
}

// violate sends a PUBLISH with an empty topic and an unknown Topic Alias.
func violate(s *scene) error {
	s.printf("It sends a PUBLISH with an empty topic and the unknown Topic Alias 1.")
	s.end()
	if err := s.peer.send(wire.AppendPublish(nil, &wire.Publish{TopicAlias: 1, Payload: []byte("?")})); err != nil {
		return err
	}
	closed, reason := s.peer.awaitEnd()
	switch {
	case !closed:
		s.fact("server does not close")
	case reason == 0:
		s.printf("The server closes the connection without a DISCONNECT.")
		s.fact(serverCloses)
	default:
		s.printf("The server sends DISCONNECT 0x%02X and closes the connection.", reason)
		s.fact(serverCloses)
	}
	return nil
}

// fallSilent connects the device. After that, the link loses all packets. The recorded time is before
// the last packet that the server receives.
func fallSilent(s *scene) error {
	s.end()
	if err := connect(s); err != nil {
		return err
	}
	s.line.fallSilent()
	s.later(s.line.cut)
	s.printf("From now on, the link loses all packets in both directions. Keep Alive is %d s.", s.device.keepAlive)
	return nil
}

// awaitWill waits for the will until the deadline.
func awaitWill(s *scene) error {
	s.await(1, s.deadline())
	return nil
}

// lateSubscriber records which messages a new subscriber receives.
func lateSubscriber(s *scene) error {
	s.printf("A late subscriber subscribes to %s.", s.topic)
	fence := s.topic + "/fence"
	var mu sync.Mutex
	var found []string
	done := make(chan struct{}, 1)
	c, err := s.start(s.config(s.id + "l"))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // an error does not matter here
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	// The client has one worker, so it handles the message on the fence topic after the retained one.
	if _, err := c.Subscribe(ctx, s.topic, client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		mu.Lock()
		defer mu.Unlock()
		found = append(found, fmt.Sprintf("%q", m.Payload))
		if !m.Retain {
			found = append(found, "without RETAIN")
		}
		return nil
	})); err != nil {
		return err
	}
	if _, err := c.Subscribe(ctx, fence, client.AtLeastOnce, client.HandlerFunc(func(context.Context, *client.Message) error {
		select {
		case done <- struct{}{}:
		default:
		}
		return nil
	})); err != nil {
		return err
	}
	if _, err := c.Publish(ctx, client.Message{Topic: fence, QoS: client.AtLeastOnce}); err != nil {
		return err
	}
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("the late subscriber does not receive its own message: %w", context.Cause(ctx))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(found) == 0 {
		found = []string{"nothing"}
	}
	s.printf("It receives %s.", strings.Join(found, " "))
	s.fact("a later subscriber gets " + strings.Join(found, " "))
	return nil
}

// awaitMessages waits until the watcher has received n messages.
func awaitMessages(n int) step {
	return func(s *scene) error {
		s.await(n, time.Now().Add(s.latest()+timeout))
		return nil
	}
}

// recordStatuses records all messages of the watcher as a fact.
func recordStatuses(s *scene) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, a := range s.came {
		all = append(all, string(a.message.Payload))
	}
	s.facts = append(s.facts, "a watcher sees "+strings.Join(all, ", "))
	return nil
}

// compareProperties compares the received will with the configured one.
func compareProperties(s *scene) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.came) == 0 {
		s.facts = append(s.facts, "no Will Message, no properties")
		return nil
	}
	m, difference := s.came[0].message, ""
	for name, pair := range map[string][2]any{
		"Content Type":             {m.ContentType, decorated.ContentType},
		"Response Topic":           {m.ResponseTopic, decorated.ResponseTopic},
		"Correlation Data":         {m.CorrelationData, decorated.CorrelationData},
		"Payload Format Indicator": {m.PayloadIsUTF8, decorated.PayloadIsUTF8},
		"User Properties":          {m.UserProperties, decorated.UserProperties},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			difference += fmt.Sprintf("%s is %v; ", name, pair[0])
		}
	}
	// The server subtracts the elapsed time in whole seconds.
	if m.Expiry > decorated.Expiry || m.Expiry < decorated.Expiry-timeout {
		difference += fmt.Sprintf("Message Expiry Interval is %v; ", m.Expiry)
	}
	if difference == "" {
		difference = allProperties
	}
	s.facts = append(s.facts, strings.TrimSuffix(difference, "; "))
	return nil
}

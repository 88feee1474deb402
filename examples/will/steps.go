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

// step is one thing that happens in a case.
type step func(*scene) error

// connect: the device connects, with its will.
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
	case s.tell == nil:
	case d.v311:
		s.say("%s connects by MQTT 3.1.1 with Clean Session 0 and the will %q on %s.", s.id, offline, s.topic)
	case d.status:
		s.say("%s connects with Session Expiry Interval %d s; by client.Status its retained will says %q, and it publishes \"online\".", s.id, d.expiry, offline)
	default:
		retain := ""
		if d.retain {
			retain = ", Will Retain 1"
		}
		s.say("%s connects with Session Expiry Interval %d s and the will %q on %s, Will Delay Interval %d s%s.", s.id, d.expiry, offline, s.topic, d.delay, retain)
	}
}

func (s *scene) dialPeer() (*peer, error) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
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

// cut: the link is gone, and the connection with it, without a DISCONNECT.
func cut(s *scene) error {
	s.say("Its link is cut: the connection ends without a DISCONNECT.")
	s.end()
	if s.peer != nil {
		s.peer.close()
	} else {
		s.line.cut()
	}
	return nil
}

// back: the device connects again, to the session that it has.
func back(s *scene) error {
	if s.peer != nil {
		s.say("It is back, with Clean Session 0.")
		return s.connectPeer()
	}
	s.say("The link works again, and mooring's client connects by itself, with Clean Start 0.")
	s.line.mend()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	return s.client.AwaitConnection(ctx)
}

func pause(d time.Duration) step {
	return func(s *scene) error {
		s.say("%v pass.", d)
		select {
		case <-time.After(d):
		case <-s.ctx.Done():
		}
		return nil
	}
}

// successor: another client connects with the device's Client Identifier, and
// no will. With Clean Start 0 it is a raw one: mooring's client would give up a
// session that it finds at the server and knows nothing of.
func successor(cleanStart bool) step {
	return func(s *scene) error {
		if cleanStart {
			s.say("A client with the same Client Identifier connects with Clean Start 1 and without a will.")
			cfg := s.config(s.id)
			cfg.Session.CleanStart = true
			_, err := s.start(cfg)
			return err
		}
		s.say("A client with the same Client Identifier connects with Clean Start 0 and without a will.")
		p, err := s.dialPeer()
		if err != nil {
			return err
		}
		return p.connect(control.Connect{ClientID: s.id, KeepAlive: 60, SessionExpiry: s.device.expiry,
			HasUsername: s.broker.user != "", Username: s.broker.user, Password: s.broker.password})
	}
}

// takeover: the same while the device's connection stands.
func takeover(cleanStart bool) step {
	return func(s *scene) error {
		s.line.refuse() // or the two would take over from each other for ever
		s.end()
		if err := successor(cleanStart)(s); err != nil {
			return err
		}
		select {
		case err := <-s.ended:
			var told *client.ConnectionError
			if errors.As(err, &told) && told.Code == wire.ReasonSessionTakenOver {
				s.say("The first connection is told DISCONNECT 0x8E, Session taken over.")
				s.fact(sawTakeover)
			} else {
				s.say("The first connection ends without 0x8E: %v.", err)
				s.fact(noTakeover)
			}
		case <-time.After(patience):
			s.fact("the old connection goes on")
		}
		return nil
	}
}

// leave: the device leaves with a reason code of the case's choice.
func leave(reason byte) step {
	return func(s *scene) error {
		s.say("It leaves with DISCONNECT 0x%02X.", reason)
		s.end()
		if s.peer == nil {
			return s.client.CloseWith(client.DisconnectOptions{Reason: reason})
		}
		err := s.peer.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: reason}))
		s.peer.close()
		return err
	}
}

// violate: a PUBLISH with an empty topic, and an alias that stands for none.
func violate(s *scene) error {
	s.say("It sends a PUBLISH with an empty topic and Topic Alias 1, which stands for nothing.")
	s.end()
	if err := s.peer.send(wire.AppendPublish(nil, &wire.Publish{TopicAlias: 1, Payload: []byte("?")})); err != nil {
		return err
	}
	closed, reason := s.peer.over()
	switch {
	case !closed:
		s.fact("server does not close")
	case reason == 0:
		s.say("The server closes the connection without a word.")
		s.fact(serverCloses)
	default:
		s.say("The server says DISCONNECT 0x%02X and closes the connection.", reason)
		s.fact(serverCloses)
	}
	return nil
}

// fallSilent: the device connects, and from then on the link carries nothing.
// The clock begins before the last packet that the server can have received.
func fallSilent(s *scene) error {
	s.end()
	if err := connect(s); err != nil {
		return err
	}
	s.line.fallSilent()
	s.later(s.line.cut)
	s.say("From here on the link carries nothing, in either direction, and nobody is told. Keep Alive is %d s.", s.device.keepAlive)
	return nil
}

// awaitWill waits for the will, or as long as it may take.
func awaitWill(s *scene) error {
	s.await(1, s.deadline())
	return nil
}

// lateSubscriber asks what somebody finds who comes only now.
func lateSubscriber(s *scene) error {
	s.say("A late subscriber asks for %s.", s.topic)
	fence := s.topic + "/fence"
	var mu sync.Mutex
	var found []string
	done := make(chan struct{}, 1)
	c, err := s.start(s.config(s.id + "l"))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // it has asked
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	// One lane: the fence comes behind what the subscription brings.
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
		return fmt.Errorf("the late subscriber's own message does not come: %w", context.Cause(ctx))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(found) == 0 {
		found = []string{"nothing"}
	}
	s.say("It finds %s.", strings.Join(found, " "))
	s.fact("later: " + strings.Join(found, " "))
	return nil
}

// awaitMessages waits until the watcher has been told so many things.
func awaitMessages(n int) step {
	return func(s *scene) error {
		s.await(n, time.Now().Add(s.latest()+patience))
		return nil
	}
}

// story is all that the watcher has been told.
func story(s *scene) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, a := range s.came {
		all = append(all, string(a.message.Payload))
	}
	s.facts = append(s.facts, "watched: "+strings.Join(all, ", "))
	return nil
}

// compareProperties compares the will that came with the one that was given.
func compareProperties(s *scene) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.came) == 0 {
		s.facts = append(s.facts, "no will, no properties")
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
	// It counts down at the server, in whole seconds.
	if m.Expiry > decorated.Expiry || m.Expiry < decorated.Expiry-patience {
		difference += fmt.Sprintf("Message Expiry Interval is %v; ", m.Expiry)
	}
	if difference == "" {
		difference = allProperties
	}
	s.facts = append(s.facts, strings.TrimSuffix(difference, "; "))
	return nil
}

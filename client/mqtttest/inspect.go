package mqtttest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Next selects the next packet of type t that the broker sends to a client. An empty clientID
// selects all clients. A type that only clients send, such as SUBSCRIBE, never matches.
//
//	lost := b.Next("pump", mqtttest.PUBACK).Swallow()
func (b *Broker) Next(clientID string, t PacketType) Reply { return Reply{&b.replies, clientID, t} }

// Message is an application message.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	// Expiry is the time until the message expires, rounded up to seconds. 0 means that the message
	// never expires.
	Expiry          time.Duration
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	User            []UserProperty
}

// Publish publishes a message like a client. The message goes to all matching subscriptions. If
// Retain is set, it also becomes the retained message of its topic, or removes it if the payload is
// empty. Publish calls no hooks. It returns how many subscribers receive the message. A group of a
// Shared Subscription counts as one subscriber. Publish returns an error if m is invalid or a limit
// is reached. If the broker is closed, it returns [ErrClosed].
func (b *Broker) Publish(m Message) (subscribers int, err error) {
	p := wire.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, ContentType: m.ContentType,
		ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData, HasExpiry: m.Expiry > 0, MessageExpiry: wire.Seconds(m.Expiry)}
	for _, u := range m.User {
		p.User = append(p.User, wire.UserProperty{Key: u.Key, Value: u.Value})
	}
	if m.QoS > 0 {
		p.PacketID = 1 // the check requires an identifier; the broker assigns another one for each subscriber
	}
	switch err := p.Check(); {
	case err != nil:
		return 0, fmt.Errorf("mqtttest: Publish: %w", err)
	case m.QoS > b.opts.maxQoS():
		return 0, fmt.Errorf("mqtttest: Publish: QoS %d is above the Maximum QoS, which is %d", m.QoS, b.opts.maxQoS())
	case m.Retain && b.opts.DisableRetain:
		return 0, errors.New("mqtttest: Publish: Retain is set, but Options.DisableRetain is set too")
	}
	raw := wire.AppendPublish(nil, &p)
	_, n := wire.Varint(raw[1:])
	v, err := wire.ParsePublish(wire.Frame{Header: raw[0], Raw: raw, Body: raw[1+n:]})
	if err != nil {
		return 0, fmt.Errorf("mqtttest: Publish: %w", err)
	}
	b.lock()
	defer b.wake()
	defer b.unlock()
	if b.closed {
		return 0, ErrClosed
	}
	if b.publish(newMessage(v, m.Topic), "") == wire.ReasonQuotaExceeded {
		return 0, fmt.Errorf("mqtttest: Publish: %d topics have retained messages of %d bytes: Options.MaxRetained or MaxRetainedBytes is reached", len(b.retained.byTopic), b.retained.bytes)
	}
	r := b.tree.find(m.Topic)
	return len(r.targets) + len(r.shared), nil
}

// WaitConnected waits until the client is connected. If ctx ends first, the error lists the
// connected clients.
func (b *Broker) WaitConnected(ctx context.Context, clientID string) error {
	err := b.WaitFor(ctx, func() bool { return b.Connected(clientID) })
	if err != nil {
		return fmt.Errorf("mqtttest: client %q is not connected (connected: %s): %w", clientID, list(b.connected()), err)
	}
	return nil
}

// WaitSubscribed waits until the session of a client has a subscription with exactly this filter.
// The client may be connected or not. If ctx ends first, the error lists the filters of the
// session.
func (b *Broker) WaitSubscribed(ctx context.Context, clientID, filter string) error {
	err := b.WaitFor(ctx, func() bool { return b.subscribed(clientID, filter) })
	if err != nil {
		var filters []string
		for _, s := range b.Subscriptions(clientID) {
			filters = append(filters, s.Filter)
		}
		return fmt.Errorf("mqtttest: client %q has not subscribed to %q (subscriptions: %s): %w", clientID, filter, list(filters), err)
	}
	return nil
}

func (b *Broker) subscribed(clientID, filter string) bool {
	b.state.Lock()
	defer b.state.Unlock()
	s := b.sessions[clientID]
	return s != nil && s.subs[filter] != nil
}

func (b *Broker) connected() (clientIDs []string) {
	b.state.Lock()
	defer b.state.Unlock()
	for id, s := range b.sessions {
		if s.conn != nil {
			clientIDs = append(clientIDs, id)
		}
	}
	slices.Sort(clientIDs)
	return clientIDs
}

// list formats the first names of a list.
func list(names []string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		return fmt.Sprintf("%q and %d more", names[:most], len(names)-most)
	}
	return fmt.Sprintf("%q", names)
}

// Subscription is a subscription of a session.
type Subscription struct {
	Filter            string // Topic Filter, including $share/NAME/
	QoS               byte   // granted QoS
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32 // Subscription Identifier; 0 if the subscription has none
}

// Subscriptions returns the subscriptions of a client's session, sorted by filter. It returns nil
// if the client has no session.
func (b *Broker) Subscriptions(clientID string) (all []Subscription) {
	b.state.Lock()
	defer b.state.Unlock()
	s := b.sessions[clientID]
	if s == nil {
		return nil
	}
	for sub := range maps.Values(s.subs) {
		one := Subscription{Filter: sub.filter, QoS: sub.qos, NoLocal: sub.noLocal, RetainAsPublished: sub.asPublished}
		if len(sub.ids) > 0 {
			one.ID = sub.ids[0]
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(x, y Subscription) int { return cmp.Compare(x.Filter, y.Filter) })
	return all
}

// Queued is a message to a client that the client has not completely acknowledged.
type Queued struct {
	// Message has the QoS and the Retain flag for this client. Expiry is the remaining time.
	Message
	PacketID uint16 // packet identifier of the message; 0 if the message was not sent yet
	Released bool   // the client has sent PUBREC for a QoS 2 message, so the broker resends PUBREL
}

// Queue returns copies of the queued messages of a client. The messages in flight come first, in
// the order of sending. The waiting messages follow. Queue returns nil if there are no messages.
func (b *Broker) Queue(clientID string) (all []Queued) {
	b.state.Lock()
	defer b.state.Unlock()
	s := b.sessions[clientID]
	if s == nil {
		return nil
	}
	for f := s.flights.first; f != nil; f = f.next {
		all = append(all, Queued{Message: f.entry.public(), PacketID: f.id, Released: f.released})
	}
	for i := range s.queue.n {
		all = append(all, Queued{Message: s.queue.at(i).public()})
	}
	return all
}

// public returns a copy of a message as the client receives it.
func (e *entry) public() Message {
	m := Message{Topic: e.msg.topic, Payload: slices.Clone(e.msg.payload), QoS: e.qos, Retain: e.retain}
	if p := e.packet(0, false); p.HasExpiry {
		m.Expiry = time.Duration(p.MessageExpiry) * time.Second
	}
	for p := range e.msg.props.All() {
		switch p.ID {
		case wire.PropContentType:
			m.ContentType = string(p.Bytes)
		case wire.PropResponseTopic:
			m.ResponseTopic = string(p.Bytes)
		case wire.PropCorrelationData:
			m.CorrelationData = slices.Clone(p.Bytes)
		case wire.PropUser:
			m.User = append(m.User, UserProperty{string(p.Bytes), string(p.Value)})
		}
	}
	return m
}

// Messages returns copies of the messages that clients have published to topics that match filter,
// in the order in which the broker accepted them. It includes wills, but not messages of
// [Broker.Publish] and refused messages. If a client sends a QoS 1 message again, the message is
// listed again. The broker keeps the newest messages, see [Options.MaxPublishedBytes].
func (b *Broker) Messages(filter string) (list []Message) {
	b.state.Lock()
	defer b.state.Unlock()
	for _, m := range b.published.list {
		if wire.Match(filter, m.topic) {
			list = append(list, (&entry{msg: m, qos: m.qos, retain: m.retain}).public())
		}
	}
	return list
}

// WaitMessage waits until [Broker.Messages] with this filter contains a message, and returns the
// first one. If ctx ends first, the error lists the topics on which clients have published.
func (b *Broker) WaitMessage(ctx context.Context, filter string) (m Message, err error) {
	if err := wire.CheckTopicFilter(filter); err != nil {
		return m, fmt.Errorf("mqtttest: WaitMessage: %w", err)
	}
	var found []Message
	err = b.WaitFor(ctx, func() bool {
		found = b.Messages(filter)
		return len(found) > 0
	})
	if err != nil {
		return m, fmt.Errorf("mqtttest: no client has published to %q (topics: %s): %w", filter, list(b.publishedTopics()), err)
	}
	return found[0], nil
}

func (b *Broker) publishedTopics() (topics []string) {
	b.state.Lock()
	defer b.state.Unlock()
	for _, m := range b.published.list {
		topics = append(topics, m.topic)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// RefusePublishes makes the broker refuse each PUBLISH of a client for the time d, and then accept
// PUBLISH packets again. An empty clientID selects all clients. PUBACK and PUBREC contain code,
// which must be 0x80 or above. The broker does not deliver refused messages, and drops those of
// QoS 0. The rule also applies if Options.Authorize allows the topic. A further call replaces the
// earlier one.
func (b *Broker) RefusePublishes(clientID string, code byte, d time.Duration) {
	b.refusing.Store(&refusing{clientID, code, time.Now().Add(d)})
}

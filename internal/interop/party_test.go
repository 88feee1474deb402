package interop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// party is a kind of client: mooring's or one in another language.
type party struct {
	name    string
	missing error // why it is not available
	hello   string
	dial    func(c *cell, name string, o dialing) (endpoint, error)
}

// dialing configures a client's connection. The zero value connects with defaults to the cell's
// broker.
type dialing struct {
	url               string
	topicAliasMaximum uint16
	maximumPacketSize uint32
	topicAliases      int // number of aliases for mooring's client
}

// endpoint is a connected client of some party.
type endpoint interface {
	Subscribe(ctx context.Context, s subscribing) error
	// Publish returns when each message is acknowledged, or written at QoS 0.
	Publish(ctx context.Context, list ...packet) error
	Received() *record[received]
	End(ctx context.Context) error
}

type subscribing struct {
	filter            string
	qos               byte
	retainAsPublished bool
	id                uint32 // Subscription Identifier
}

// properties are the PUBLISH properties that an application sees.
type properties struct {
	UTF8          bool        `json:"utf8"`
	Expiry        uint32      `json:"expiry"` // seconds
	ContentType   string      `json:"contentType"`
	ResponseTopic string      `json:"responseTopic"`
	Correlation   []byte      `json:"correlation"` // nil: absent
	User          [][2]string `json:"user"`
}

// packet is a PUBLISH to send. Its payload is payloadOf(Size, UTF8).
type packet struct {
	Topic  string `json:"topic"`
	QoS    byte   `json:"qos"`
	Retain bool   `json:"retain"`
	Size   int    `json:"size"`
	Alias  uint16 `json:"alias"`
	properties
}

// received is a PUBLISH as a client delivers it.
type received struct {
	Topic           string   `json:"topic"`
	QoS             byte     `json:"qos"`
	Retain          bool     `json:"retain"`
	Dup             bool     `json:"dup"`
	Size            int      `json:"size"`
	SHA256          string   `json:"sha256"`
	SubscriptionIDs []uint32 `json:"subscriptionIds"`
	properties
}

// payloadOf returns the payload of a given size. Every counterpart computes the same payload, so
// large payloads need not be sent through pipes.
func payloadOf(size int, utf8 bool) []byte {
	first, period := 0, 251
	if utf8 {
		first, period = ' ', 95
	}
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(first + i%period)
	}
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// messageID is the user property of docs/wire.md from which mooring's client reads Message.ID.
const messageID = "m-id"

// mooring is the client of this module.
var mooring = party{name: "mooring", dial: func(c *cell, name string, o dialing) (endpoint, error) {
	cfg := c.config(name)
	cfg.Receiving.TopicAliasMaximum, cfg.Connection.MaximumPacketSize, cfg.Publishing.TopicAliases = o.topicAliasMaximum, o.maximumPacketSize, o.topicAliases
	if o.url != "" {
		cfg.Servers = []string{o.url}
	}
	m := &ourEndpoint{client: c.make(cfg)}
	if err := m.client.Start(context.Background()); err != nil {
		return nil, err
	}
	return m, m.client.AwaitConnection(c.ctx)
}}

type ourEndpoint struct {
	client *client.Client
	got    record[received]
}

func (m *ourEndpoint) Received() *record[received] { return &m.got }
func (m *ourEndpoint) End(context.Context) error   { return m.client.Close() }

func (m *ourEndpoint) Subscribe(ctx context.Context, s subscribing) error {
	var options []client.SubscribeOption
	if s.retainAsPublished {
		options = append(options, client.RetainAsPublished())
	}
	if s.id != 0 {
		options = append(options, client.SubscriptionID(s.id))
	}
	_, err := m.client.Subscribe(ctx, s.filter, client.QoS(s.qos), m, options...)
	return err
}

func (m *ourEndpoint) Handle(_ context.Context, got *client.Message) error {
	r := received{Topic: got.Topic, QoS: byte(got.QoS), Retain: got.Retain, Dup: got.Duplicate, Size: len(got.Payload), SHA256: digest(got.Payload),
		SubscriptionIDs: got.SubscriptionIDs,
		properties: properties{UTF8: got.PayloadIsUTF8, Expiry: uint32(got.Expiry / time.Second), ContentType: got.ContentType,
			ResponseTopic: got.ResponseTopic, Correlation: slices.Clone(got.CorrelationData)}}
	for _, p := range got.UserProperties {
		r.User = append(r.User, [2]string{p.Key, p.Value})
	}
	if !got.ID.IsZero() {
		r.User = append(r.User, [2]string{messageID, got.ID.String()}) // where other clients find it
	}
	m.got.add(r)
	return nil
}

func (m *ourEndpoint) Publish(ctx context.Context, list ...packet) error {
	var open []*client.Delivery
	for _, p := range list {
		if p.Alias != 0 {
			return errors.New("mooring's client chooses its Topic Aliases itself")
		}
		out := client.Message{Topic: p.Topic, Payload: payloadOf(p.Size, p.UTF8), QoS: client.QoS(p.QoS), Retain: p.Retain,
			PayloadIsUTF8: p.UTF8, Expiry: time.Duration(p.Expiry) * time.Second, ContentType: p.ContentType,
			ResponseTopic: p.ResponseTopic, CorrelationData: p.Correlation}
		for _, pair := range p.User {
			if pair[0] == messageID {
				out.ID = client.ParseMessageID(pair[1])
				continue
			}
			out.UserProperties = append(out.UserProperties, client.UserProperty{Key: pair[0], Value: pair[1]})
		}
		d, err := m.client.Publish(ctx, out)
		if err != nil {
			return err
		}
		open = append(open, d)
	}
	var all []error
	for _, d := range open {
		_, err := d.Wait(ctx)
		all = append(all, err)
	}
	return errors.Join(all...)
}

// overhead returns the number of bytes of properties that a party adds to a message by itself.
func (p party) overhead(qos byte) int {
	if p.name == mooring.name && qos > 0 {
		return 1 + 2 + len(messageID) + 2 + 36
	}
	return 0
}

// Names of the clients in other languages.
const mqttjsName, pahoName = "MQTT.js", "paho-python"

// theirs returns a party in another language.
func theirs(name string, c *counterpart, missing error) party {
	p := party{name: name, missing: missing}
	if missing != nil {
		return p
	}
	p.hello = c.hello
	p.dial = func(cell *cell, name string, o dialing) (endpoint, error) {
		if o.url == "" {
			o.url = cell.broker.URL()
		}
		u, err := url.Parse(o.url)
		if err != nil {
			return nil, err
		}
		host, text, err := net.SplitHostPort(u.Host)
		if err != nil {
			return nil, err
		}
		port, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		e := theirEndpoint{c, cell.name + name}
		return e, c.do(cell.ctx, command{Do: "connect", Client: e.client, Host: host, Port: port,
			TopicAliasMaximum: o.topicAliasMaximum, MaximumPacketSize: o.maximumPacketSize})
	}
	return p
}

type theirEndpoint struct {
	*counterpart
	client string
}

func (e theirEndpoint) Received() *record[received] { return e.inbox(e.client) }

func (e theirEndpoint) Subscribe(ctx context.Context, s subscribing) error {
	return e.do(ctx, command{Do: "subscribe", Client: e.client, Filter: s.filter, QoS: s.qos, RetainAsPublished: s.retainAsPublished, SubscriptionID: s.id})
}

func (e theirEndpoint) Publish(ctx context.Context, list ...packet) error {
	return e.do(ctx, command{Do: "publish", Client: e.client, Messages: list})
}

func (e theirEndpoint) End(ctx context.Context) error {
	if err := e.do(ctx, command{Do: "end", Client: e.client}); err != nil {
		return fmt.Errorf("ending %s: %w", e.client, err)
	}
	return nil
}

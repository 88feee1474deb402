package mqtttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// QoS0Only is a value for [Options.MaximumQoS]. It limits the broker to QoS 0.
const QoS0Only = -1

// NeverExpires is the Session Expiry Interval of a session that never expires.
const NeverExpires = math.MaxUint32

// Options configure a [Broker]. With the zero value, the broker supports all features of MQTT 5
// except enhanced authentication. It then listens on a free port of the loopback interface, and
// keeps its state in memory.
//
// The functions Authenticate, Authorize and OnPacket are hooks. They run on the goroutines of the
// connections, without a lock. They may call the broker's methods and must be safe for concurrent
// use. A hook must return when its context ends. The context ends when the connection or the broker
// ends. Close waits up to 2 s for hooks. If a hook calls Cut, the connection ends before the packet
// for which the hook was called. All earlier packets are sent first.
type Options struct {
	Addr string // TCP address to listen on; default: 127.0.0.1:0
	// NoTCP disables the TCP listener, so that clients connect only with Dial and Serve. It is
	// required in a testing/synctest bubble.
	NoTCP     bool
	WebSocket bool // also listen for WebSocket connections on a free loopback port
	TLS       bool // also listen for TLS connections on a free loopback port

	// Dir is the folder for the state of the broker. The broker creates it if it does not exist.
	// Default: the state is kept in memory.
	Dir string
	// Sync makes the broker call fsync before each acknowledgement. Without it, the state in Dir
	// survives SIGKILL, but not a power failure.
	Sync bool

	// ReceiveMaximum limits the unacknowledged QoS 1 and 2 messages from each client. Default:
	// 65,535.
	ReceiveMaximum    uint16
	MaximumPacketSize uint32 // largest packet that the broker accepts, in bytes; default: 16 MiB
	MaximumQoS        int    // highest QoS of the broker: 1 or QoS0Only; default: no limit
	TopicAliasMaximum uint16 // maximum number of topic aliases per client; default: 1,024
	MaxSessionExpiry  uint32 // maximum session expiry in seconds; default: no limit
	// ServerKeepAlive is the keep alive in seconds that the broker sends to clients. Default: the
	// client's value is used.
	ServerKeepAlive uint16

	MQTT311 bool // also serve MQTT 3.1.1 clients, which are refused with CONNACK 0x84 by default

	DisableTopicAlias bool
	DisableRetain     bool
	DisableWildcard   bool
	DisableShared     bool
	DisableSubID      bool

	MaxConnections int // maximum number of connections; more are refused with 0x97; default: 10,000
	MaxSessions    int // maximum number of sessions; more are refused with 0x97; default: 100,000
	// Maximum number of subscriptions per session; more are refused with 0x97; default: 10,000.
	MaxSubscriptions int
	MaxRetained      int // maximum number of retained messages; more are refused with 0x97; default: 65,536
	// MaxRetainedBytes bounds the total size of topics, payloads and properties of the retained
	// messages. More are refused with 0x97. Default: 256 MiB.
	MaxRetainedBytes int
	// MaxPublishedBytes bounds the messages that [Broker.Messages] returns. The broker forgets the
	// oldest ones. Default: 1 MiB.
	MaxPublishedBytes int
	// Queued messages per session; at the limit, new messages are dropped; default: 1,000,000.
	MaxQueuedMessages int
	MaxQueuedBytes    int // queued bytes per session; at the limit, new messages are dropped; default: 1 GiB

	ConnectTimeout time.Duration // time from accepting a connection to its CONNECT; default: 10 s
	// WriteTimeout is how long a client may read no bytes before the broker cuts its connection.
	// With TLS or WebSocket, the client must read 64 KiB or a whole packet in this time. Default:
	// 30 s.
	WriteTimeout time.Duration

	// Authenticate returns 0 to accept a client. To refuse the client, it returns the reason code
	// for CONNACK. The MQTT 3.1.1 codes 4 and 5 count as 0x86 and 0x87. Other codes below 0x80
	// count as 0x80.
	Authenticate func(ctx context.Context, clientID, user string, password []byte) byte
	// Authorize decides whether a client may use a topic. If write is true, the client publishes to
	// topic. If write is false, the client subscribes to the filter topic. Authorize returns 0 to
	// allow the request. To refuse it, Authorize returns a reason code of 0x80 or above for PUBACK,
	// PUBREC or SUBACK. For a subscription, 1 and 2 limit the QoS. Other codes below 0x80 count as
	// 0. The broker drops a refused QoS 0 message, and refuses a CONNECT with a refused will.
	Authorize func(ctx context.Context, clientID, topic string, write bool) byte
	// OnPacket is called with each whole packet, before the broker processes or sends the packet.
	// The slice packet is valid only during the call. clientID is empty until the broker has read
	// the CONNECT.
	OnPacket func(ctx context.Context, dir Direction, clientID string, packet []byte)

	Logger *slog.Logger // receives the log of the broker; default: no log
}

// Option changes the options of [Start]. An Option can be a function literal:
//
//	mqtttest.Start(t, func(o *mqtttest.Options) { o.ReceiveMaximum = 2 })
type Option func(*Options)

// With returns an Option that sets all options to those in o.
func With(o Options) Option { return func(dst *Options) { *dst = o } }

// WithDir returns an Option that keeps the broker's state in the folder dir.
func WithDir(dir string) Option { return func(o *Options) { o.Dir = dir } }

// check sets the defaults and returns an error for invalid options.
func (o *Options) check() error {
	if o.MaximumQoS < QoS0Only || o.MaximumQoS > 2 {
		return fmt.Errorf("mqtttest: Options.MaximumQoS is %d; use QoS0Only, 1, 2 or 0 for no limit", o.MaximumQoS)
	}
	if o.NoTCP && (o.WebSocket || o.TLS || o.Addr != "") {
		return errors.New("mqtttest: Options.NoTCP excludes Addr, WebSocket and TLS; leave those empty")
	}
	for _, n := range []int{o.MaxConnections, o.MaxSessions, o.MaxSubscriptions, o.MaxRetained, o.MaxRetainedBytes, o.MaxPublishedBytes, o.MaxQueuedMessages, o.MaxQueuedBytes} {
		if n < 0 {
			return fmt.Errorf("mqtttest: a limit in Options is %d; use 0 for the default", n)
		}
	}
	if o.ConnectTimeout < 0 || o.WriteTimeout < 0 {
		return errors.New("mqtttest: a timeout in Options is negative; use 0 for the default")
	}
	fill(&o.Addr, "127.0.0.1:0")
	fill(&o.ReceiveMaximum, math.MaxUint16)
	fill(&o.MaximumPacketSize, 16<<20)
	fill(&o.TopicAliasMaximum, 1024)
	if o.DisableTopicAlias {
		o.TopicAliasMaximum = 0
	}
	fill(&o.MaxConnections, 10_000)
	fill(&o.MaxSessions, 100_000)
	fill(&o.MaxSubscriptions, 10_000)
	fill(&o.MaxRetained, 65_536)
	fill(&o.MaxRetainedBytes, 256<<20)
	fill(&o.MaxPublishedBytes, 1<<20)
	fill(&o.MaxQueuedMessages, 1_000_000)
	fill(&o.MaxQueuedBytes, 1<<30)
	fill(&o.ConnectTimeout, 10*time.Second)
	fill(&o.WriteTimeout, 30*time.Second)
	fill(&o.MaxSessionExpiry, NeverExpires)
	o.MaximumPacketSize = min(o.MaximumPacketSize, wire.MaxPacketSize)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// maxQoS returns the Maximum QoS as a number from 0 to 2.
func (o *Options) maxQoS() byte {
	switch o.MaximumQoS {
	case QoS0Only:
		return 0
	case 1:
		return 1
	}
	return 2
}

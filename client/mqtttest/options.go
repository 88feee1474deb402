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

// QoS0Only, as [Options.MaximumQoS], limits the broker to QoS 0.
const QoS0Only = -1

// NeverExpires is the Session Expiry Interval of a session that never expires.
const NeverExpires = math.MaxUint32

// Options configure a [Broker]. The zero value selects all features of MQTT 5 except enhanced
// authentication, a free port of the loopback interface, and state in memory.
//
// Authenticate, Authorize and OnPacket are hooks. They run on the goroutines of the connections,
// without a lock. They may call the broker's methods and must be safe for concurrent use. They must
// return when their context ends, which is when the connection or the broker ends. Close waits up
// to 2 s for them. Cut in a hook ends the connection before the packet that the hook was called
// for, after all earlier packets were sent.
type Options struct {
	Addr      string // TCP address to listen on; default 127.0.0.1:0
	NoTCP     bool   // no listener, only Dial and Serve; required in a testing/synctest bubble
	WebSocket bool   // also listen for WebSocket on a free loopback port
	TLS       bool   // also listen for TLS on a free loopback port

	Dir  string // folder for the state, created if missing; default: the state is in memory
	Sync bool   // fsync before each acknowledgement; otherwise the state survives SIGKILL but not a power cut

	ReceiveMaximum    uint16 // unacknowledged QoS 1 and 2 messages per client; default 65,535
	MaximumPacketSize uint32 // largest packet that the broker accepts, in bytes; default 16 MiB
	MaximumQoS        int    // 1 or QoS0Only; default: no limit
	TopicAliasMaximum uint16 // topic aliases per client; default 1,024
	MaxSessionExpiry  uint32 // in seconds; default: no limit
	ServerKeepAlive   uint16 // sent to clients, in seconds; default: the client's value applies

	MQTT311 bool // also serve MQTT 3.1.1; otherwise such clients are refused with CONNACK 0x84

	DisableTopicAlias bool
	DisableRetain     bool
	DisableWildcard   bool
	DisableShared     bool
	DisableSubID      bool

	MaxConnections    int // more are refused with 0x97; default 10,000
	MaxSessions       int // more are refused with 0x97; default 100,000
	MaxSubscriptions  int // per session; more are refused with 0x97; default 10,000
	MaxRetained       int // topics; more are refused with 0x97; default 65,536
	MaxRetainedBytes  int // of topics, payloads and properties; more are refused with 0x97; default 256 MiB
	MaxQueuedMessages int // per session; the newest is dropped; default 1,000,000
	MaxQueuedBytes    int // per session; the newest is dropped; default 1 GiB

	ConnectTimeout time.Duration // from accept to CONNECT; default 10 s
	WriteTimeout   time.Duration // a client that reads nothing for this time is cut (with TLS or WebSocket: less than 64 KiB or a packet); default 30 s

	// Authenticate returns 0 to accept a client, or the CONNACK reason code that refuses it. The
	// MQTT 3.1.1 codes 4 and 5 count as 0x86 and 0x87; other codes below 0x80 count as 0x80.
	Authenticate func(ctx context.Context, clientID, user string, password []byte) byte
	// Authorize returns 0 to allow a publish to topic (write) or a subscription to the filter
	// topic. To refuse it, it returns the reason code for PUBACK, PUBREC or SUBACK, 0x80 or above.
	// For a subscription, 1 and 2 limit the QoS. Other codes below 0x80 count as 0. A refused QoS 0
	// message is dropped. A refused will is refused in CONNACK.
	Authorize func(ctx context.Context, clientID, topic string, write bool) byte
	// OnPacket is called with each whole packet, before the broker processes or sends it. packet is
	// valid only during the call. clientID is empty before CONNECT was read.
	OnPacket func(ctx context.Context, dir Direction, clientID string, packet []byte)

	Logger *slog.Logger // default: no log
}

// Option changes the options of [Start]. It may be a function literal:
//
//	mqtttest.Start(t, func(o *mqtttest.Options) { o.ReceiveMaximum = 2 })
type Option func(*Options)

// With replaces all options.
func With(o Options) Option { return func(dst *Options) { *dst = o } }

// WithDir keeps the broker's state in dir.
func WithDir(dir string) Option { return func(o *Options) { o.Dir = dir } }

// check sets the defaults and returns an error for invalid options.
func (o *Options) check() error {
	if o.MaximumQoS < QoS0Only || o.MaximumQoS > 2 {
		return fmt.Errorf("mqtttest: Options.MaximumQoS is %d; use QoS0Only, 1, 2 or 0 for no limit", o.MaximumQoS)
	}
	if o.NoTCP && (o.WebSocket || o.TLS || o.Addr != "") {
		return errors.New("mqtttest: Options.NoTCP excludes Addr, WebSocket and TLS; leave those empty")
	}
	for _, n := range []int{o.MaxConnections, o.MaxSessions, o.MaxSubscriptions, o.MaxRetained, o.MaxRetainedBytes, o.MaxQueuedMessages, o.MaxQueuedBytes} {
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

// maxQoS returns the Maximum QoS as a number that can be compared.
func (o *Options) maxQoS() byte {
	switch o.MaximumQoS {
	case QoS0Only:
		return 0
	case 1:
		return 1
	}
	return 2
}

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

// QoS0Only is the value of [Options.MaximumQoS] for a broker that takes and
// sends QoS 0 alone.
const QoS0Only = -1

// NeverExpires is the Session Expiry Interval of a session that never ends.
const NeverExpires = math.MaxUint32

// Options describe a [Broker]. The zero value is a broker with all features
// of MQTT 5 except enhanced authentication, on a free port of the loopback
// interface, that keeps its state in memory.
//
// Hooks are Authenticate, Authorize and OnPacket. They run on the goroutines of the connections,
// without a lock, so they may call the broker's methods and must be safe for concurrent use. Their
// context ends when the connection or the broker does, and then they must return: Close waits for
// them for at most 2 s. Cut in a hook ends the connection before the packet that the hook is called
// for, and after everything that came before it was sent.
type Options struct {
	Addr      string // TCP address to listen on; "" is 127.0.0.1:0
	NoTCP     bool   // no listener at all: only Dial and Serve, which a testing/synctest bubble needs
	WebSocket bool   // also listen for WebSocket on a free loopback port
	TLS       bool   // also listen for TLS on a free loopback port

	Dir  string // persistence folder, made if it is missing; "" keeps nothing
	Sync bool   // fsync before each acknowledgement; without it, state survives SIGKILL but not a power cut

	ReceiveMaximum    uint16 // QoS 1 and 2 messages a client may have unacknowledged; 0 is 65,535
	MaximumPacketSize uint32 // bytes that the broker takes in one packet; 0 is 16 MiB
	MaximumQoS        int    // 1 or QoS0Only to lower it; 0 and 2 are no limit
	TopicAliasMaximum uint16 // topic aliases per client; 0 is 1,024
	MaxSessionExpiry  uint32 // seconds; 0 is no limit
	ServerKeepAlive   uint16 // seconds that clients are told to use; 0 leaves it to them

	MQTT311 bool // serve MQTT 3.1.1 clients too; without it they are answered with CONNACK 0x84

	DisableTopicAlias bool
	DisableRetain     bool
	DisableWildcard   bool
	DisableShared     bool
	DisableSubID      bool

	MaxConnections    int // more are refused with 0x97; 0 is 10,000
	MaxSessions       int // more are refused with 0x97; 0 is 100,000
	MaxSubscriptions  int // per session, more are refused with 0x97; 0 is 10,000
	MaxRetained       int // further topics are refused with 0x97; 0 is 65,536
	MaxRetainedBytes  int // of their topics, payloads and properties; as MaxRetained; 0 is 256 MiB
	MaxQueuedMessages int // per session, the newest is dropped; 0 is 1,000,000
	MaxQueuedBytes    int // per session, the newest is dropped; 0 is 1 GiB

	ConnectTimeout time.Duration // from accept to CONNECT; 0 is 10 s
	WriteTimeout   time.Duration // a client that takes nothing for this long is cut (TLS, WebSocket: that does not take 64 KiB or a packet); 0 is 30 s

	// Authenticate returns 0 to accept a client, or the CONNACK reason code that refuses it. Of the
	// codes below 0x80, 4 and 5, which are those of MQTT 3.1.1, count as 0x86 and 0x87, and others as 0x80.
	Authenticate func(ctx context.Context, clientID, user string, password []byte) byte
	// Authorize returns 0 to allow a publish to topic (write) or a subscription to the filter topic,
	// or the reason code, from 0x80 on, of the PUBACK, PUBREC or SUBACK that refuses it. For a
	// subscription 1 and 2 allow at most that QoS. Every other code below 0x80 counts as 0. A refused
	// QoS 0 message is dropped; a refused will is refused in CONNACK.
	Authorize func(ctx context.Context, clientID, topic string, write bool) byte
	// OnPacket is called with each whole packet, before the broker acts on it or sends it. The bytes
	// are valid during the call only. clientID is empty until CONNECT was read.
	OnPacket func(ctx context.Context, dir Direction, clientID string, packet []byte)

	Logger *slog.Logger // nil is silent
}

// Option changes the options of [Start]. A function literal will do:
//
//	mqtttest.Start(t, func(o *mqtttest.Options) { o.ReceiveMaximum = 2 })
type Option func(*Options)

// With replaces all options.
func With(o Options) Option { return func(dst *Options) { *dst = o } }

// WithDir keeps the broker's state in dir.
func WithDir(dir string) Option { return func(o *Options) { o.Dir = dir } }

// check fills in the defaults and says what cannot be.
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

// maxQoS is the Maximum QoS as a number to compare with.
func (o *Options) maxQoS() byte {
	switch o.MaximumQoS {
	case QoS0Only:
		return 0
	case 1:
		return 1
	}
	return 2
}

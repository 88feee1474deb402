package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Config configures a client. Only Servers is required. A client that must not lose messages across
// restarts also sets ClientID and Dir. Every zero value, also in nested structs, is a safe default.
type Config struct {
	// Servers lists the server's addresses: mqtt://host:1883, mqtts://host:8883, ws://host:80/mqtt,
	// wss://host:443/mqtt or unix:///path. An address without a port uses the port shown here. The
	// scheme tcp means mqtt, and ssl and tls mean mqtts. New returns an error for URL parts that
	// the client would ignore. The client tries all servers, one after the other, before it waits
	// for Backoff. It starts with the server of the last connection if that connection was up for
	// StableAfter. Delivery is exactly once only if the servers share sessions. Required.
	Servers []string
	// ClientID identifies the session at the server. Keep it the same across restarts. Default: a
	// random identifier if the store is in memory. The session then ends with the client. If the
	// store was used under another ClientID, the client publishes the stored messages and discards
	// the stored session. With StrictSession, the client stops instead.
	ClientID string
	// Dir is the folder of the durable store. The client creates a missing folder. One client at a
	// time can open it. Default: a store in memory. Pending messages are then lost when the client
	// ends.
	Dir string
	// TLS configures mqtts and wss. Default: the system's root certificates. New copies the
	// configuration. Unless they are set, it sets MinVersion to TLS 1.2 and ClientSessionCache to a
	// new cache. It sets no cache if SessionTicketsDisabled, GetClientCertificate or
	// VerifyPeerCertificate is set, because a resumed TLS session calls neither function.
	TLS *tls.Config
	// Logger receives a line at level Warn for each refusal, deferral, drop, failure and panic. The
	// client logs the first problem of a kind at once. It counts further problems of that kind for
	// a minute and then logs one line, "N more". See docs/guides/operating.md. Connections are
	// logged at level Info. The reason why the client stopped is logged at level Error. Lines never
	// contain payloads or credentials. The log handler may call the client, except for methods that
	// wait, such as Subscribe, Drain, and Publish with Block. Default: slog.Default, read for each
	// line. slog.New(slog.DiscardHandler) logs nothing.
	Logger  *slog.Logger
	OnEvent func(Event) // called for each event, see Event; default: none

	Connection ConnectionConfig // how to connect, and timeouts
	Session    SessionConfig    // the session at the server
	Store      StoreConfig      // limits and policies of the store
	Publishing PublishingConfig // outbound messages
	Receiving  ReceivingConfig  // inbound messages and their handlers
	Presence   PresenceConfig   // the will, the status topic and retained messages
}

// ConnectionConfig configures how a client connects.
type ConnectionConfig struct {
	Username string // sent in CONNECT; default: none
	Password []byte // sent in CONNECT, up to 65,535 bytes; default: none
	// Credentials returns the user name and password for each attempt to connect. Credentials
	// replaces Username and Password. ServerOf(ctx) returns the server of the attempt. Calls of Credentials do not overlap. The context of a call
	// ends after ConnectTimeout. If Credentials returns an error or panics, the attempt fails with
	// a *CredentialsError. With Credentials set, the client does not stop after the CONNACK codes
	// 0x86, 0x87 and 0x8C, but retries with backoff. Default: none.
	Credentials func(ctx context.Context) (Credentials, error)
	Auth        Authenticator // enhanced authentication (section 4.12 of MQTT 5); default: none
	TLSFiles    *TLSFiles     // files read again for each attempt to connect, in place of Config.TLS; default: none
	// WebSocketRequest is called for each attempt to open a WebSocket (ws, wss). It can set headers
	// of the HTTP request, such as Origin and Authorization. It can also change the URL, for
	// example to add a signature that expires. Calls of WebSocketRequest do not overlap. The
	// context of a call ends after ConnectTimeout. If WebSocketRequest returns an error or panics,
	// the attempt fails with a *WebSocketError. Default: the server's URL, without Origin.
	WebSocketRequest func(ctx context.Context, r *WebSocketRequest) error
	UserProperties   []UserProperty // sent in each CONNECT, in this order; the server defines their meaning; default: none
	// Proxy is the proxy for all servers except Unix sockets: http://user:password@host:3128,
	// https://host, socks5://user:password@host:1080 or ProxyFromEnvironment. With
	// ProxyFromEnvironment, New reads the variable HTTPS_PROXY or, if it is empty, ALL_PROXY. Hosts
	// in NO_PROXY and loopback hosts are then reached without a proxy. HTTP proxies get CONNECT
	// requests, even for ws. The proxy resolves host names. The client verifies an https proxy with
	// the same roots as the servers, and sends it no client certificate. Default: no proxy.
	Proxy string
	// Dial opens the transport in place of the built-in dialer. The client then ignores Config.TLS,
	// TLSFiles, WebSocketRequest and Proxy. Default: the built-in dialer.
	Dial func(ctx context.Context, server *url.URL) (net.Conn, error)

	// KeepAlive is the longest time without a packet from the client, rounded up to seconds. After
	// this time, the client sends a PINGREQ. The client reconnects if no answer arrives within half
	// of KeepAlive. Default 30 s; at most 65,535 s; NoKeepAlive disables it. The server may
	// override it, see Connected.KeepAlive.
	KeepAlive time.Duration
	// MaximumPacketSize is the largest packet that the client accepts, in bytes. Default 16 MiB.
	// The server does not deliver larger packets. A packet contains 5 bytes for each Subscription
	// Identifier. The client also accepts one byte more, because mosquitto sends such packets.
	MaximumPacketSize uint32
	// IgnoreRedirects makes the client ignore redirects to another server. By default, the client
	// follows up to five redirects in a row, and only to the same scheme or an encrypted one.
	IgnoreRedirects bool

	// StopOn selects the refused connections that stop the client. Default: a refusal because of
	// the configuration, if no server has ever accepted the client, see StopPolicy.
	StopOn StopPolicy

	// Backoff is the delay between rounds of attempts to connect, with full jitter. In a round, the
	// client tries each server once. Default: 100 ms, doubled each time, up to 1 minute.
	Backoff     reliability.Backoff
	StableAfter time.Duration // how long a connection must be up to reset Backoff; a shorter one resets it in part; default 10 s

	ConnectTimeout time.Duration // limit of an attempt to connect, from dialing to CONNACK; default 20 s
	WriteTimeout   time.Duration // limit of one write to the connection; default 10 s
	AckTimeout     time.Duration // with messages in flight, the connection ends if the server acknowledges none for this time; default 30 s
	CloseTimeout   time.Duration // how long Close waits for handlers, acknowledgements, offline status and DISCONNECT; default 5 s
}

// StoreConfig configures the store of accepted messages.
type StoreConfig struct {
	Options persistence.Options // options of the store in Config.Dir, or in memory
	Custom  persistence.Store   // store of the application, in place of Config.Dir; the client does not close this store; default: none
	// WhenFull selects what Publish does at a limit of the store. New rejects
	// Options.Limits.WhenFull. Default: Reject. For a Custom store, set DropOldest in its own
	// options.
	WhenFull FullPolicy
	// DeadLetters is how many refused messages the store keeps for Client.DeadLetters. If there are
	// more, the store discards the oldest. A refused message that is kept has the outcome
	// DeadLettered. New rejects Options.Retention.MaxDeadLetters. Default: 0. At most 100,000. A
	// Custom store has its own limit.
	DeadLetters int
}

// PublishingConfig configures outbound messages.
type PublishingConfig struct {
	// Sequenced numbers QoS 1 and 2 messages without Conflate, per topic and priority. Receivers
	// use the numbers to restore the order and to detect missing messages. With Config.Dir, numbers
	// survive restarts. The store numbers the messages of at most MaxStreams (default 1,024) pairs
	// of topic and priority. Messages of further pairs have no number, see MessageUnnumbered.
	Sequenced        bool
	RejectUnnumbered bool     // Publish rejects messages that MaxStreams leaves without a number, and returns persistence.ErrFull
	Unsequenced      []string // filters of topics that are not numbered, such as reply topics; default: none
	Publisher        string   // name that this client sends with its sequence numbers; default ClientID
	// TopicAliases is the highest number of topic aliases that the client uses, if the server
	// allows it. Aliases stand for the topics used last, up to 16 MiB. Default 0; at most 65,535.
	TopicAliases int
	// Refusals selects what happens to messages that the server refuses (PUBACK or PUBREC with a
	// reason code of 0x80 or above). The first matching rule applies. Default: no rules. Without a
	// matching rule, the outcome is Refused if the code concerns the message itself, so that a
	// retry cannot succeed (0x90 and 0x99). After other codes, including 0x87, the client defers
	// the message. A code that PUBACK must not have, such as 0x81, ends the connection, see
	// PoisonAttempts. A deferred message stays pending, and the client resends it after RetryBackoff
	// until it expires. Meanwhile, only later messages of the same topic and priority wait.
	Refusals     []RefusalRule
	RetryBackoff reliability.Backoff // delay before a deferred message or a refused subscription is sent again, with full jitter; default: 250 ms or half of its Max if that is less, doubled each time, up to 1 minute
	// PoisonAttempts is how many connections in a row one message may end before the client defers
	// it. The client then sends the message alone, after the others, with RetryBackoff. If the
	// server ended the connections with a code that concerns the message itself, the message has
	// the outcome Refused with a *PoisonError instead. Refusals can change both results. If the
	// server gives no code, messages of the same topic wait until the deferred message has ended
	// three more connections. Default 5.
	PoisonAttempts int
	// Breaker is the circuit breaker for the server. Refusals of one topic count as one failure
	// until the server accepts a message. So FailureThreshold counts topics refused in a row.
	Breaker     reliability.BreakerOptions
	WaitTimeout time.Duration // limit of Delivery.Wait; default: no limit
}

func (c Config) withDefaults() Config {
	conn, in := &c.Connection, &c.Receiving
	conn.KeepAlive = cmp.Or(conn.KeepAlive, 30*time.Second)
	conn.MaximumPacketSize = cmp.Or(conn.MaximumPacketSize, 16<<20)
	conn.ConnectTimeout = cmp.Or(conn.ConnectTimeout, 20*time.Second)
	conn.WriteTimeout = cmp.Or(conn.WriteTimeout, 10*time.Second)
	conn.AckTimeout = cmp.Or(conn.AckTimeout, 30*time.Second)
	conn.CloseTimeout = cmp.Or(conn.CloseTimeout, 5*time.Second)
	c.Session.Expiry = cmp.Or(c.Session.Expiry, 24*time.Hour)
	c.Session.OnLost = cmp.Or(c.Session.OnLost, Republish)
	in.ReceiveMaximum = cmp.Or(in.ReceiveMaximum, 1024)
	in.Concurrency = cmp.Or(in.Concurrency, 8)
	in.SlowHandlerAfter = cmp.Or(in.SlowHandlerAfter, 10*time.Second)
	in.QoS0QueueSize = cmp.Or(in.QoS0QueueSize, 1024)
	in.MaxBufferedBytes = cmp.Or(in.MaxBufferedBytes, 64<<20)
	in.HandlerBackoff.Max = cmp.Or(in.HandlerBackoff.Max, max(30*time.Second, in.HandlerBackoff.Min))
	in.UnhandledGrace = cmp.Or(in.UnhandledGrace, 30*time.Second)
	in.SetAside.MaxMessages = cmp.Or(in.SetAside.MaxMessages, 10_000)
	in.SetAside.MaxBytes = cmp.Or(in.SetAside.MaxBytes, 64<<20)
	retry := &c.Publishing.RetryBackoff
	retry.Min, retry.Max = cmp.Or(retry.Min, min(250*time.Millisecond, max(1, cmp.Or(retry.Max, time.Minute)/2))), cmp.Or(retry.Max, time.Minute)
	c.Publishing.PoisonAttempts = cmp.Or(c.Publishing.PoisonAttempts, 5)
	if c.ClientID == "" && !c.Session.AssignedClientID {
		c.ClientID = "mooring-" + NewMessageID().String()
	}
	c.Publishing.Publisher = cmp.Or(c.Publishing.Publisher, c.ClientID)
	if c.Presence.Status != nil {
		c.Presence.Status = c.Presence.Status.withDefaults()
		c.Presence.Will = c.Presence.Status.will(c.Session.Expiry)
	}
	return c
}

// FullPolicy selects what Publish does when MaxMessages, MaxBytes or MaxDiskBytes of the store is
// reached. At other limits, Publish always fails. The store never drops messages that may have been
// sent, or messages of a higher priority than the new one. Message.Block makes single messages wait.
type FullPolicy uint8

const (
	Reject     FullPolicy = iota // Publish returns persistence.ErrFull
	Block                        // Publish waits for space, until its context ends or the client is closed
	DropOldest                   // the store drops the oldest message of the lowest priority, or rejects the new one if it can drop none
	DropNewest                   // Publish returns a Delivery with the state Dropped, and no error
)

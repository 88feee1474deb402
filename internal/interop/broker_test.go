package interop

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// broker is one that a test runs on. It ends with the test.
type broker interface {
	// URL changes with each restart.
	URL() string
	// Restart ends the broker, cleanly or as SIGKILL does, and starts it again
	// on what it left behind.
	Restart(t *testing.T, kill bool)
	Traits() traits
}

// setup is what a test needs of its broker.
type setup struct {
	receiveMaximum    uint16 // 0: the broker's own
	maximumPacketSize uint32 // 0: the broker's own
	users             bool   // lets in goodUser only, whose topics with deniedLevel are refused
	restarts          bool
	maximumQueued     int  // messages that the broker queues for a client; 0: no limit
	large             bool // messages too large to be on disk after each change; restarts forget everything
}

// What a broker with users knows.
const (
	goodUser, goodPassword = "harbour", "master"
	deniedLevel            = "denied"
)

// traits are where a broker does other than MQTT 5 asks, or what it leaves
// open. The zero value is our own broker.
type traits struct {
	shared bool // it outlives the test, which therefore has to clean up

	// savesLate: it acknowledges messages before they are safe, and SIGKILL
	// makes it forget the last of them.
	savesLate bool
	// forgetsCleanStarts: a session that began with Clean Start 1 and was not
	// resumed since is gone after a restart, against [MQTT-3.1.2-23].
	forgetsCleanStarts bool
	// repeatsComplete: after a restart, or two cuts in a row, it sends QoS 2
	// messages again that it has sent PUBREL for, against [MQTT-4.3.3-6].
	repeatsComplete bool
	// cutsRefused: behind the acknowledgement that refuses a message it ends the
	// connection.
	cutsRefused bool
	// grantsDenied: SUBACK grants a filter that its rules forbid, and nothing is
	// ever delivered for it.
	grantsDenied bool
	// exceedsReceiveMaximum: it sends more QoS 1 and 2 messages than the
	// client's Receive Maximum allows, against [MQTT-3.3.4-9].
	exceedsReceiveMaximum bool
	// miscountsPackets: it counts a packet without a part of its fixed header. So
	// it takes one of up to four bytes above its own Maximum Packet Size, and sends
	// one of one byte above the client's, against [MQTT-3.1.2-24].
	miscountsPackets bool
	// sharesRetained: a new Shared Subscription is sent the retained messages,
	// against section 3.3.1.3.
	sharesRetained bool
	// sharesUnevenly: how it divides a Shared Subscription is not known.
	sharesUnevenly bool
}

// ours is mqtttest.
type ours struct {
	options mqtttest.Options
	broker  *mqtttest.Broker
	// tolerated is how many protocol errors a test had clients make on purpose.
	tolerated uint64
}

func startOurs(t *testing.T, need setup) broker {
	o := &ours{options: mqtttest.Options{ReceiveMaximum: need.receiveMaximum, MaximumPacketSize: need.maximumPacketSize}}
	if need.restarts {
		o.options.Dir = t.TempDir()
	}
	if need.users {
		o.options.Authenticate = func(_ context.Context, _, user string, password []byte) byte {
			if user != goodUser || string(password) != goodPassword {
				return 0x86
			}
			return 0
		}
		o.options.Authorize = func(_ context.Context, _, topic string, _ bool) byte {
			if strings.Contains(topic, deniedLevel) {
				return 0x87
			}
			return 0
		}
	}
	o.start(t)
	t.Cleanup(func() {
		if err := o.broker.Close(); err != nil {
			t.Error(err)
		}
		if n := o.broker.Stats().ProtocolErrors; n > o.tolerated {
			t.Errorf("the broker counted %d protocol errors of its clients, want at most %d", n, o.tolerated)
		}
	})
	return o
}

func (o *ours) start(t *testing.T) {
	t.Helper()
	b, err := mqtttest.New(o.options)
	if err != nil {
		t.Fatal(err)
	}
	o.broker = b
}

func (o *ours) URL() string    { return o.broker.URL() }
func (o *ours) Traits() traits { return traits{} }

func (o *ours) Restart(t *testing.T, kill bool) {
	t.Helper()
	if kill {
		o.broker.Kill()
	} else if err := o.broker.Close(); err != nil {
		t.Error(err)
	}
	o.start(t)
}

// foreign is the broker of MQTT_TEST_BROKER. It is not ours to set up.
type foreign struct{ url *url.URL }

func useForeign(t *testing.T, raw string, need setup) broker {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "mqtt" && u.Scheme != "tcp" {
		t.Fatalf("MQTT_TEST_BROKER is %q; use mqtt://host:port or mqtt://user:password@host:port (the proxy that breaks links must see MQTT, so no TLS)", raw)
	}
	if u.Port() == "" {
		u.Host += ":1883"
	}
	if need != (setup{}) {
		t.Skipf("this test sets its broker up or restarts it (%+v), and that of MQTT_TEST_BROKER is not ours", need)
	}
	return foreign{u}
}

func (f foreign) URL() string { return "mqtt://" + f.url.Host }

// Traits: nothing is known, so what some broker does it may do.
func (f foreign) Traits() traits {
	return traits{shared: true, repeatsComplete: true, exceedsReceiveMaximum: true, miscountsPackets: true, sharesRetained: true, sharesUnevenly: true}
}

func (f foreign) Restart(t *testing.T, _ bool) {
	t.Fatal("a foreign broker is not restarted; say so in the test's setup")
}

// login puts the user of MQTT_TEST_BROKER in.
func login(b broker, cfg *client.Config) {
	if f, ok := b.(foreign); ok && f.url.User != nil {
		password, _ := f.url.User.Password()
		cfg.Connection.Username, cfg.Connection.Password = f.url.User.Username(), []byte(password)
	}
}

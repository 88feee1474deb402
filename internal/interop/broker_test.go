package interop

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// broker is a broker for a test. It ends with the test.
type broker interface {
	// URL returns the broker's URL, which changes with each restart.
	URL() string
	// Restart ends the broker, cleanly or with SIGKILL, and starts it again with its saved state.
	Restart(t *testing.T, kill bool)
	Traits() traits
}

// setup is the broker configuration that a test needs.
type setup struct {
	receiveMaximum    uint16 // 0: the broker's default
	maximumPacketSize uint32 // 0: the broker's default
	users             bool   // only goodUser may connect, and topics with deniedLevel are refused
	restarts          bool
	maximumQueued     int  // maximum number of messages queued for a client; 0: no limit
	large             bool // messages are too large to be saved after each change; a restart forgets everything
}

// Users and topics of a broker with users.
const (
	goodUser, goodPassword = "harbour", "master"
	deniedLevel            = "denied"
)

// traits are deviations of a broker from MQTT 5, and its choices where MQTT 5 leaves them open. The
// zero value describes mqtttest.
type traits struct {
	shared bool // it survives the test, so the test has to clean up

	// savesLate: it acknowledges messages before they are saved, so SIGKILL loses the last of them.
	savesLate bool
	// forgetsCleanStarts: a session that began with Clean Start 1 and was not resumed since is lost
	// in a restart, against [MQTT-3.1.2-23].
	forgetsCleanStarts bool
	// repeatsComplete: after a restart or two broken connections in succession, it resends QoS 2
	// messages for which it has sent PUBREL, against [MQTT-4.3.3-6].
	repeatsComplete bool
	// cutsRefused: after it has refused a message, it ends the connection.
	cutsRefused bool
	// grantsDenied: SUBACK grants a filter that its rules forbid, but no message is delivered for
	// it.
	grantsDenied bool
	// exceedsReceiveMaximum: it sends more QoS 1 and 2 messages than the client's Receive Maximum
	// allows, against [MQTT-3.3.4-9].
	exceedsReceiveMaximum bool
	// miscountsPackets: it counts packet sizes without part of the fixed header. So it accepts
	// packets of up to four bytes above its own Maximum Packet Size, and sends packets of one byte
	// above the client's, against [MQTT-3.1.2-24].
	miscountsPackets bool
	// sharesRetained: it sends retained messages to a new Shared Subscription, against section
	// 3.3.1.3.
	sharesRetained bool
	// sharesUnevenly: its distribution for a Shared Subscription is unknown.
	sharesUnevenly bool
}

// inProcess is mqtttest, the broker of this module.
type inProcess struct {
	options mqtttest.Options
	broker  *mqtttest.Broker
	// tolerated is the number of protocol errors that the test's clients make on purpose.
	tolerated uint64
}

func startOurs(t *testing.T, need setup) broker {
	o := &inProcess{options: mqtttest.Options{ReceiveMaximum: need.receiveMaximum, MaximumPacketSize: need.maximumPacketSize}}
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

func (o *inProcess) start(t *testing.T) {
	t.Helper()
	b, err := mqtttest.New(o.options)
	if err != nil {
		t.Fatal(err)
	}
	o.broker = b
}

func (o *inProcess) URL() string    { return o.broker.URL() }
func (o *inProcess) Traits() traits { return traits{} }

func (o *inProcess) Restart(t *testing.T, kill bool) {
	t.Helper()
	if kill {
		o.broker.Kill()
	} else if err := o.broker.Close(); err != nil {
		t.Error(err)
	}
	o.start(t)
}

// foreign is the broker of MQTT_TEST_BROKER. The tests cannot configure it.
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
		t.Skipf("this test configures or restarts its broker (%+v), which is not possible with MQTT_TEST_BROKER", need)
	}
	return foreign{u}
}

func (f foreign) URL() string { return "mqtt://" + f.url.Host }

// Traits returns all known deviations, because nothing is known about the broker.
func (f foreign) Traits() traits {
	return traits{shared: true, repeatsComplete: true, exceedsReceiveMaximum: true, miscountsPackets: true, sharesRetained: true, sharesUnevenly: true}
}

func (f foreign) Restart(t *testing.T, _ bool) {
	t.Fatal("a foreign broker cannot be restarted; set setup.restarts in the test")
}

// login adds the user of MQTT_TEST_BROKER.
func login(b broker, cfg *client.Config) {
	if f, ok := b.(foreign); ok && f.url.User != nil {
		password, _ := f.url.User.Password()
		cfg.Connection.Username, cfg.Connection.Password = f.url.User.Username(), []byte(password)
	}
}

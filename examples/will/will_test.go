package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/ostest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// inBubble runs a case with the in-process broker in a synctest bubble, without sockets. The fake clock
// makes all times exact. If broken is not nil, it wraps the connections of the clients.
func inBubble(t *testing.T, c *scenario, broken func(net.Conn) net.Conn) (v verdict) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := mqtttest.Start(t, func(o *mqtttest.Options) { o.NoTCP, o.MQTT311 = true, true })
		v = playOn(t.Context(), c, func(context.Context) (net.Conn, error) {
			if broken != nil {
				return broken(b.Dial()), nil
			}
			return b.Dial(), nil
		})
	})
	return v
}

func playOn(ctx context.Context, c *scenario, dial func(context.Context) (net.Conn, error)) verdict {
	b := &broker{name: inProcessName, server: "mqtt://bubble", dial: dial, slow: time.Second, close: func() {}}
	return judge(c, b, play(ctx, c, b, nil))
}

func TestEveryCaseOnTheInProcessBroker(t *testing.T) {
	for i := range cases {
		c := &cases[i]
		t.Run(c.name, func(t *testing.T) {
			v := inBubble(t, c, nil)
			for _, problem := range v.wrong {
				t.Error(problem)
			}
			if got := c.seen(v.outcome); len(v.wrong) == 0 && len(v.known)+len(v.fixed) > 0 {
				t.Errorf("%s: the known departures are mosquitto's: %+v", got, v)
			}
		})
	}
}

// This test uses real time. A busy machine makes wills late, so the limit for lateness is 10 s. A will
// that is early is still an error.
func TestEveryCaseOnMosquitto(t *testing.T) {
	b, err := mosquitto()
	switch {
	case err == nil:
	case err == errNotInstalled:
		ostest.Missing(t, "MOORING_REQUIRE_MOSQUITTO", "mosquitto on PATH")
	default:
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	b.late, b.slow = 10*time.Second, 4*time.Second
	for i, v := range playAll(t.Context(), all(), b) {
		c := &cases[i]
		for _, problem := range v.wrong {
			t.Errorf("%s: %s", c.name, problem)
		}
		for _, name := range v.fixed {
			t.Logf("%s: a known departure did not happen: %s", c.name, name)
		}
	}
}

func all() (list []*scenario) {
	for i := range cases {
		list = append(list, &cases[i])
	}
	return list
}

func TestOpen_MosquittoFlag(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	brokers, names, err := options{mosquitto: "auto"}.open()
	if err != nil || len(brokers) != 2 || brokers[1] != nil || names[1] != "mosquitto" {
		t.Fatalf("auto: %v, %v, %v", brokers, names, err)
	}
	brokers[0].close()
	var out strings.Builder
	c := &cases[0]
	good := table(&out, []*scenario{c}, names, brokers, [][]verdict{{judge(c, brokers[0], outcome{wills: at(0)})}, nil}, "not installed")
	if !good || !strings.Contains(out.String(), "✓ Will Message after 0.0 s  not installed\n") {
		t.Errorf("%t:\n%s", good, &out)
	}
	if _, _, err := (options{mosquitto: "required"}).open(); err != errNotInstalled {
		t.Errorf("required: %v", err)
	}
	if brokers, _, err = (options{mosquitto: "off"}).open(); err != nil || len(brokers) != 1 {
		t.Fatalf("off: %v, %v", brokers, err)
	}
	brokers[0].close()
}

func TestDocument_IsCurrent(t *testing.T) {
	const want = "run go run ./examples/will -markdown > docs/will.md"
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "will.md"))
	if err != nil {
		t.Fatalf("%v; %s", err, want)
	}
	if string(text) != markdown() {
		t.Errorf("docs/will.md is not what -markdown writes; %s", want)
	}
}

func TestExplain_PrintsSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mqtttest.Start(t, func(o *mqtttest.Options) { o.NoTCP = true })
		b := &broker{name: inProcessName, server: "mqtt://bubble", dial: func(context.Context) (net.Conn, error) { return m.Dial(), nil }, slow: time.Second}
		var out strings.Builder
		if !explain(t.Context(), &out, named("no reconnect within the delay"), b) {
			t.Error("explain reports a failure")
		}
		for _, want := range []string{
			"On in-process:\n", "0.00 s  A watcher subscribes to will", "Will Delay Interval 2 s.\n", "Its link is cut",
			` 2.00 s  The watcher receives "offline", 2.0 s after the end of the connection.`,
			"expected: Will Message after 2 s\n", "received: Will Message after 2.0 s\n", "  right\n",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is missing", want)
			}
		}
		if t.Failed() {
			t.Log(out.String())
		}
	})
}

func TestNamed_AcceptsUniquePrefixes(t *testing.T) {
	for name, want := range map[string]string{
		"DISCONNECT 0x04": "DISCONNECT 0x04", "no reconnect": "no reconnect within the delay", "retained": "retained will", "takeover": "", "": "", "none": "",
	} {
		got := ""
		if c := named(name); c != nil {
			got = c.name
		}
		if got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.name] || c.rule == "" || c.why == "" || len(c.steps) == 0 {
			t.Errorf("%q is incomplete, or exists twice", c.name)
		}
		seen[c.name] = true
	}
}

package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

func key(t *testing.T, f client.KeyFunc, m client.Message) string {
	t.Helper()
	k, err := f(&m)
	if err != nil {
		t.Errorf("key of %q: %v", m.Payload, err)
	}
	return k
}

func TestKeyByJSON(t *testing.T) {
	for _, c := range []struct{ payload, same, other string }{
		{`{"id":"a"}`, `{ "x":[1], "id" : "a" }`, `{"id":"A"}`},
		{`{"id":"a"}`, `{"id":"\u0061"}`, `{"ID":"a"}`},
		{`{"id":9007199254740993}`, `{"id": 9007199254740993 }`, `{"id":9007199254740992}`},
		{`{"id":17}`, `{"n":{"id":18},"id":17}`, `{"id":"17"}`},
		{`{"id":17}`, `{"id":18,"id":17}`, `{"id":170}`},
		{`{"id":-1}`, `{"id":-1}`, `{"id":1}`},
		{`{"id":"a b"}`, `{"id":"a b"}`, `{"id":"a"}`},
		{`{"id":"\ud800"}`, `{"id":"\ud800"}`, `{"id":"\ud801"}`}, // no valid characters
		{"{\"id\":\"\xff\"}", "{\"id\":\"\xff\"}", "{\"id\":\"\xfe\"}"},
	} {
		f := client.KeyByJSON()
		k := key(t, f, client.Message{Payload: []byte(c.payload)})
		if same := key(t, f, client.Message{Payload: []byte(c.same)}); k == "" || k != same {
			t.Errorf("keys of %s and %s: %q and %q, want equal ones", c.payload, c.same, k, same)
		}
		if other := key(t, f, client.Message{Payload: []byte(c.other)}); k == other {
			t.Errorf("keys of %s and %s: both %q", c.payload, c.other, k)
		}
	}
	for _, payload := range []string{``, `null`, `17`, `"id"`, `[{"id":1}]`, `{}`, `{"id":null}`, `{"id":""}`, `{"id":true}`, `{"id":{}}`, `{"id":[1]}`, `{"id":1`, `{"id":1}x`} {
		if k := key(t, client.KeyByJSON(), client.Message{Payload: []byte(payload)}); k != "" {
			t.Errorf("the key of %s is %q, want none", payload, k)
		}
	}
	nested := client.Message{Payload: []byte(`{"order":{"number":"A-1"},"number":"B"}`)}
	if k := key(t, client.KeyByJSON("order", "number"), nested); k != `"A-1"` {
		t.Errorf("the key of a nested field is %s", k)
	}
}

func TestKeyByCloudEvent(t *testing.T) {
	binary := func(source, id string) client.Message {
		return client.Message{UserProperties: []client.UserProperty{{Key: "specversion", Value: "1.0"}, {Key: "id", Value: id}, {Key: "source", Value: source}}}
	}
	structured := func(text string) client.Message {
		return client.Message{ContentType: "application/cloudevents+json; charset=utf-8", Payload: []byte(text)}
	}
	k := key(t, client.KeyByCloudEvent, binary("/a", "1"))
	if k == "" || k != key(t, client.KeyByCloudEvent, structured(`{"specversion":"1.0","source":"/a","id":"1","data":{"id":2}}`)) {
		t.Errorf("the key of an event is %q in binary mode, and another one in structured mode", k)
	}
	for _, other := range []client.Message{binary("/b", "1"), binary("/a", "2"), binary(`/a" "1`, "1"), structured(`{"source":"/a","id":"2"}`)} {
		if o := key(t, client.KeyByCloudEvent, other); o == k || o == "" {
			t.Errorf("the key of another event is %q", o)
		}
	}
	for _, none := range []client.Message{{}, binary("", "1"), binary("/a", ""), structured(`{"id":"1"}`), structured(`[`), {Payload: []byte(`{"source":"/a","id":"1"}`)}} {
		if o := key(t, client.KeyByCloudEvent, none); o != "" {
			t.Errorf("the key of %+v is %q, want none", none, o)
		}
	}
}

func TestKeyByOrigin(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range []client.Message{
		{Topic: "t", Origin: client.Origin{Publisher: "p", Epoch: 1, Seq: 1}}, {Topic: "u", Origin: client.Origin{Publisher: "p", Epoch: 1, Seq: 1}},
		{Topic: "t", Origin: client.Origin{Publisher: "q", Epoch: 1, Seq: 1}}, {Topic: "t", Origin: client.Origin{Publisher: "p", Epoch: 2, Seq: 1}},
		{Topic: "t", Origin: client.Origin{Publisher: "p", Epoch: 1, Seq: 2}}, {Topic: `t" 1`, Origin: client.Origin{Publisher: "p", Epoch: 1, Seq: 1}},
	} {
		k := key(t, client.KeyByOrigin, m)
		if k == "" || seen[k] {
			t.Errorf("the key %q of %+v is empty or known", k, m)
		}
		seen[k] = true
	}
	if k := key(t, client.KeyByOrigin, client.Message{Topic: "t"}); k != "" {
		t.Errorf("the key of a message without a number is %q", k)
	}
}

// KeyByContent distinguishes messages without an ID by topic and payload.
func TestKeyByContent_SuppressesDuplicatesWithoutID(t *testing.T) {
	in := newInbox()
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{})
		cfg.Receiving.DedupeKey = client.FirstKey(client.KeyByID, client.KeyByContent)
	}, in, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		for i, m := range []struct{ topic, payload string }{{"a", "1"}, {"a", "1"}, {"a", "2"}, {"b", "1"}, {"a", "1"}} {
			p.publish(wire.Publish{Topic: m.topic, QoS: 1, PacketID: uint16(i + 1), Payload: []byte(m.payload)})
			p.nextAck(wire.PUBACK)
		}
		id := client.NewMessageID() // an ID takes precedence over the payload
		for i, payload := range []string{"x", "y"} {
			m := identified("a", uint16(i+10), id)
			m.Payload = []byte(payload)
			p.publish(m)
			p.nextAck(wire.PUBACK)
		}
		if n := len(in.messages()); n != 4 {
			t.Errorf("%d messages were handled, want 4", n)
		}
	})
}

func TestDedupeKey_PanicLetsMessagePass(t *testing.T) {
	in := newInbox()
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Dedupe, cfg.Receiving.DedupeKey = dedupe.NewMemory(dedupe.Options{}), func(*client.Message) (string, error) { panic("no key") }
	}, in, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		if a := p.nextAck(wire.PUBACK); a.Reason != 0 || len(in.messages()) != 1 {
			t.Errorf("PUBACK %+v, %d handled", a, len(in.messages()))
		}
	})
}

// A message without a key is handled, set aside or refused, as the application chooses.
func TestDedupeKey_Missing(t *testing.T) {
	for name, test := range map[string]struct {
		dir                        bool
		key                        client.KeyFunc
		handled, setAside, without int
		reason                     byte
	}{
		"handled":            {key: client.KeyByJSON(), handled: 2, without: 2},
		"handled by default": {handled: 2, without: 2},
		"no deduplication":   {key: func(*client.Message) (string, error) { return client.NoDedupe, nil }, handled: 2},
		"another key":        {key: client.FirstKey(client.KeyByJSON(), client.KeyByContent), handled: 1},
		"set aside":          {dir: true, key: client.RequireKey(client.KeyByJSON()), setAside: 2},
		"refused":            {key: client.RequireKey(client.KeyByJSON()), reason: 0x80},
		"refused by choice": {dir: true, reason: 0x99, key: func(*client.Message) (string, error) {
			return "", client.Refuse(0x99, "no id")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			in := newInbox()
			receiving(t, func(cfg *client.Config) {
				cfg.Receiving.Dedupe, cfg.Receiving.DedupeKey = dedupe.NewMemory(dedupe.Options{}), test.key
				if test.dir {
					cfg.Dir = t.TempDir()
				}
			}, in, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
				for i := range 2 {
					p.publish(wire.Publish{Topic: "t", QoS: 1, PacketID: uint16(i + 1), Payload: []byte("{}")})
					if a := p.nextAck(wire.PUBACK); a.Reason != test.reason {
						t.Errorf("PUBACK %+v, want reason 0x%02X", a, test.reason)
					}
				}
				if n := len(in.messages()); n != test.handled {
					t.Errorf("%d messages were handled, want %d", n, test.handled)
				}
				if test.setAside+int(test.reason) > 0 {
					got := eventsOf[client.HandlerFailed](events)
					aside := eventsOf[client.MessageSetAside](events)
					if len(aside) != test.setAside || test.reason == 0x80 && (len(got) != 2 || !errors.Is(got[0].Err, client.ErrNoKey)) {
						t.Errorf("%d set aside, want %d; %+v", len(aside), test.setAside, got)
					}
				}
				if n := c.Stats().NotDeduplicated; n != uint64(test.without) || len(eventsOf[client.NotDeduplicated](events)) != test.without {
					t.Errorf("%d reported as not deduplicated, want %d", n, test.without)
				}
			})
		})
	}
}

// Retained messages are the state of their topics. A process that subscribes handles them, unless the
// application wants each of them once.
func TestDedupe_Retained(t *testing.T) {
	for _, once := range []bool{false, true} {
		t.Run(fmt.Sprint("once=", once), func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
				handled, cache := 0, dedupe.NewMemory(dedupe.Options{})
				publisher := mustStart(t, testConfig("pump", &recorder{}, through(p)))
				d := must1(publisher.Publish(t.Context(), client.Message{Topic: "orders/1", QoS: client.AtLeastOnce, Retain: true, Payload: []byte("x")}))
				must1(d.Wait(t.Context()))
				var options []client.SubscribeOption
				if once {
					options = append(options, client.DedupeRetained())
				}
				for range 3 {
					cfg := testConfig("backend", &recorder{}, through(p))
					cfg.Receiving.Dedupe = cache
					c := mustStart(t, cfg)
					connect(t, c)
					_, err := c.Subscribe(t.Context(), "orders/#", client.AtLeastOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
						if (m.Claim.Key != "") != once || once && !strings.HasSuffix(m.Claim.Key, "\x00orders/#") {
							t.Errorf("the claim is %+v", m.Claim)
						}
						return nil
					}), options...)
					must(t, err)
					time.Sleep(time.Minute)
					s := c.Stats()
					if s.Received != 1 || s.Handled+s.Duplicates != 1 || once && s.NotDeduplicated != 0 || !once && s.NotDeduplicated != 1 {
						t.Errorf("%+v", s)
					}
					handled += int(s.Handled)
					must(t, c.Close())
				}
				if want := map[bool]int{false: 3, true: 1}[once]; handled != want {
					t.Errorf("handled %d times, want %d", handled, want)
				}
			})
		})
	}
}

// A key does not depend on the white space between the values of a payload, and only valid JSON has
// a key.
func FuzzKeyByJSON(f *testing.F) {
	for _, payload := range []string{`{"id":17}`, `{"id":"a","x":{"id":1}}`, `{"id":1e400}`, `{"id":"\ud800"}`, "{\"id\":\"\xff\"}", `{"id":`, `[]`} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		k := key(t, client.KeyByJSON(), client.Message{Payload: payload})
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, payload, " ", "\t"); err != nil {
			if k != "" {
				t.Errorf("the key of invalid JSON is %q", k)
			}
			return
		}
		if other := key(t, client.KeyByJSON(), client.Message{Payload: spaced.Bytes()}); other != k {
			t.Errorf("key %q, and %q with other white space", k, other)
		}
		key(t, client.KeyByCloudEvent, client.Message{ContentType: "application/cloudevents+json", Payload: payload})
	})
}

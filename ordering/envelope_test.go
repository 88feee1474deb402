package ordering_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/ordering"
)

func TestEnvelope_RoundTrip(t *testing.T) {
	for _, payload := range []string{
		`{"celsius":21.5}`, `[1, 2]`, `"on"`, `on`, `23.5`, `null`, `true`, ``, ` `, ` {}`, "{}\n", "\x00\xff",
		"\"\xff\"", `{"a":1,"a":2}`, `{"<":"&"}`, `1e400`, `{`, "\"\\u0000\"", `"payload"`, "\ufeff{}",
		strings.Repeat("[", 512) + strings.Repeat("]", 512),
		strings.Repeat("[", 513) + strings.Repeat("]", 513),
		strings.Repeat(`{"\"[":[`, 300) + strings.Repeat(`]}`, 300),
		strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
		"[" + strings.Repeat(`"[[[[",`, 1000) + "1]",
	} {
		in := ordering.Envelope{ID: "é\"<\u2028", Sequence: math.MaxUint64, Timestamp: time.UnixMilli(1_700_000_000_123).UTC(), Payload: []byte(payload)}
		b, err := ordering.EncodeEnvelope(in)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(b) {
			t.Errorf("%.60q: not JSON: %.80s", payload, b)
		}
		out, err := ordering.DecodeEnvelope(b)
		if err != nil {
			t.Errorf("%.60q: %v", payload, err)
			continue
		}
		if out.ID != in.ID || out.Sequence != in.Sequence || !out.Timestamp.Equal(in.Timestamp) || !bytes.Equal(out.Payload, in.Payload) {
			t.Errorf("%+v came back as %+v", in, out)
		}
	}
}

func TestEncodeEnvelope(t *testing.T) {
	for _, c := range []struct {
		in   ordering.Envelope
		want string // "" for ErrEnvelope
	}{
		{ordering.Envelope{ID: "a", Sequence: 7, Timestamp: time.UnixMilli(1700000000000), Payload: []byte(`{"x":1}`)},
			`{"id":"a","sequence":7,"timestamp":1700000000000,"payload":{"x":1}}`},
		{ordering.Envelope{Payload: []byte("on")}, `{"sequence":0,"encoding":"base64","payload":"b24="}`},
		{ordering.Envelope{}, `{"sequence":0,"encoding":"base64","payload":""}`},
		{ordering.Envelope{Timestamp: time.Unix(0, 0), Payload: []byte("1")}, `{"sequence":0,"timestamp":0,"payload":1}`},
		{ordering.Envelope{Timestamp: time.UnixMilli(ordering.MaxTimestamp), Payload: []byte("1")}, `{"sequence":0,"timestamp":253402300799999,"payload":1}`},
		{ordering.Envelope{Timestamp: time.UnixMilli(ordering.MaxTimestamp + 1)}, ""},
		{ordering.Envelope{Timestamp: time.UnixMilli(-1)}, ""},
		{ordering.Envelope{Timestamp: time.Unix(math.MaxInt64/2, 0)}, ""},
		{ordering.Envelope{ID: "\xff"}, ""},
		{ordering.Envelope{ID: strings.Repeat("x", 65_536)}, ""},
	} {
		b, err := ordering.EncodeEnvelope(c.in)
		if c.want == "" {
			if !errors.Is(err, ordering.ErrEnvelope) {
				t.Errorf("%.60v: %s, %v, want ErrEnvelope", c.in, b, err)
			}
		} else if string(b) != c.want {
			t.Errorf("%+v: %s, %v, want %s", c.in, b, err, c.want)
		}
	}
}

func TestDecodeEnvelope(t *testing.T) {
	// The publisher of the source document: no ID, numbers from 0.
	e, err := ordering.DecodeEnvelope([]byte(`{"sequence": 0, "timestamp": 1700000000000, "payload": {"t": 21.5}}` + "\n"))
	if err != nil || e.Sequence != 0 || e.ID != "" || string(e.Payload) != `{"t": 21.5}` || !e.Timestamp.Equal(time.UnixMilli(1700000000000)) {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := ordering.DecodeEnvelope([]byte(`{"payload":"on","sequence":1}`)); err != nil || string(e.Payload) != `"on"` || !e.Timestamp.IsZero() {
		t.Errorf("%+v, %v", e, err)
	}
	for _, bad := range []string{
		``, `null`, `[]`, `1`, `{`, `{}`, `{"sequence":1}`, `{"payload":1}`, "\xff",
		`{"sequence":1,"payload":1}{}`, `{"sequence":1,"payload":1} x`, `{"sequence":1,"payload":1,}`,
		`{"Sequence":1,"payload":1}`, `{"sequence":1,"payload":1,"extra":1}`,
		`{"sequence":1,"sequence":2,"payload":1}`, `{"sequence":1,"payload":1,"payload":1}`,
		`{"sequence":-1,"payload":1}`, `{"sequence":1.0,"payload":1}`, `{"sequence":1e0,"payload":1}`,
		`{"sequence":"1","payload":1}`, `{"sequence":18446744073709551616,"payload":1}`, `{"sequence":null,"payload":1}`,
		`{"sequence":1,"timestamp":-1,"payload":1}`, `{"sequence":1,"timestamp":253402300800000,"payload":1}`,
		`{"sequence":1,"timestamp":null,"payload":1}`, `{"sequence":1,"timestamp":"now","payload":1}`,
		`{"sequence":1,"id":"","payload":1}`, `{"sequence":1,"id":7,"payload":1}`, `{"sequence":1,"id":null,"payload":1}`,
		"{\"sequence\":1,\"id\":\"\xff\",\"payload\":1}",
		`{"sequence":1,"id":"` + strings.Repeat("x", 65_536) + `","payload":1}`,
		`{"sequence":1,"encoding":"hex","payload":"00"}`, `{"sequence":1,"encoding":null,"payload":"00"}`,
		`{"sequence":1,"encoding":"base64","payload":"!"}`, `{"sequence":1,"encoding":"base64","payload":1}`,
		`{"sequence":1,"encoding":"base64","payload":"b25="}`, `{"sequence":1,"payload":}`,
	} {
		if e, err := ordering.DecodeEnvelope([]byte(bad)); !errors.Is(err, ordering.ErrEnvelope) {
			t.Errorf("%.60s: %+v, %v, want ErrEnvelope", bad, e, err)
		}
	}
}

func TestNesting(t *testing.T) {
	for text, want := range map[string]int{
		`1`: 0, `"["`: 0, `"\"[[["`: 0, `"\\"`: 0, `["\\",[]]`: 2, `{"[{":[{}]}`: 3, `[[],[],{}]`: 2,
	} {
		if !json.Valid([]byte(text)) {
			t.Fatalf("%s is not JSON", text)
		}
		if got := ordering.Nesting([]byte(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// FuzzDecodeEnvelope: a decoded envelope is the same after encoding and decoding it.
func FuzzDecodeEnvelope(f *testing.F) {
	f.Add([]byte(`{"id":"a","sequence":7,"timestamp":1700000000000,"payload":{"x":1}}`))
	f.Add([]byte(`{"sequence":0,"encoding":"base64","payload":"b24="}`))
	f.Add([]byte(`{"sequence":18446744073709551615,"payload":"\ud800"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ordering.DecodeEnvelope(data)
		if err != nil {
			if !errors.Is(err, ordering.ErrEnvelope) {
				t.Fatalf("%v is no ErrEnvelope", err)
			}
			return
		}
		b, err := ordering.EncodeEnvelope(e)
		if err != nil {
			t.Fatalf("%+v does not encode: %v", e, err)
		}
		again, err := ordering.DecodeEnvelope(b)
		if err != nil || again.ID != e.ID || again.Sequence != e.Sequence || !again.Timestamp.Equal(e.Timestamp) || !bytes.Equal(again.Payload, e.Payload) {
			t.Fatalf("%+v came back as %+v, %v", e, again, err)
		}
	})
}

// FuzzEncodeEnvelope: every byte of a payload is kept.
func FuzzEncodeEnvelope(f *testing.F) {
	f.Add("id", uint64(1), []byte(`{"x":1}`))
	f.Add("", uint64(0), []byte("\x00"))
	f.Fuzz(func(t *testing.T, id string, seq uint64, payload []byte) {
		b, err := ordering.EncodeEnvelope(ordering.Envelope{ID: id, Sequence: seq, Payload: payload})
		if err != nil {
			return
		}
		e, err := ordering.DecodeEnvelope(b)
		if err != nil || e.ID != id || e.Sequence != seq || !bytes.Equal(e.Payload, payload) {
			t.Fatalf("%q %d %q came back as %+v, %v", id, seq, payload, e, err)
		}
	})
}

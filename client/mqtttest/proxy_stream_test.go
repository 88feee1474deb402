package mqtttest

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// proxyScript is a judge that follows a script by packet number.
type proxyScript struct {
	peek     int
	idle     bool
	verdicts map[int]proxyVerdict
	seen     []byte
	bodies   [][]byte
}

func (s *proxyScript) watch() (bool, int) { return !s.idle, s.peek }

func (s *proxyScript) judge(header byte, body []byte) proxyVerdict {
	s.seen = append(s.seen, header)
	s.bodies = append(s.bodies, bytes.Clone(body))
	return s.verdicts[len(s.seen)-1]
}

// proxySession is what a client might send: 0 CONNECT, 1 PUBLISH, 2 a large
// PUBLISH, 3 PUBACK, 4 PINGREQ.
func proxySession() (packets [][]byte) {
	publish := wire.Publish{QoS: 1, PacketID: 7, Topic: "a/b", Payload: []byte("hello")}
	large := wire.Publish{QoS: 1, PacketID: 8, Topic: "a/b", Payload: bytes.Repeat([]byte("x"), 300)}
	return [][]byte{
		{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 30, 0, 0, 0},
		wire.AppendPublish(nil, &publish),
		wire.AppendPublish(nil, &large),
		wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: 9}),
		{0xC0, 0},
	}
}

// proxyFeed sends in through s in pieces of n bytes.
func proxyFeed(s *proxyStream, in []byte, n int) (out []byte, cut bool) {
	for piece := range slices.Chunk(in, n) {
		if out, cut = s.feed(out, piece); cut {
			return out, true
		}
	}
	return out, false
}

func TestProxyStream_Verdicts(t *testing.T) {
	session := proxySession()
	whole := bytes.Join(session, nil)
	upTo := func(i int) []byte { return bytes.Join(session[:i], nil) }
	half := func(i int) []byte { return append(upTo(i), session[i][:len(session[i])/2]...) }
	cases := []struct {
		name     string
		verdicts map[int]proxyVerdict
		want     []byte
		cut      bool
		tally    proxyTally
	}{
		{"all pass", nil, whole, false, proxyTally{packets: 5}},
		{"cut before the large one", map[int]proxyVerdict{2: proxyCutBefore}, upTo(2), true, proxyTally{packets: 2}},
		{"cut after the large one", map[int]proxyVerdict{2: proxyCutAfter}, upTo(3), true, proxyTally{packets: 3}},
		{"tear a small one", map[int]proxyVerdict{1: proxyTear}, half(1), true, proxyTally{packets: 1, torn: 1}},
		{"tear the large one", map[int]proxyVerdict{2: proxyTear}, half(2), true, proxyTally{packets: 2, torn: 1}},
		{"tear one without a body", map[int]proxyVerdict{4: proxyTear}, half(4), true, proxyTally{packets: 4, torn: 1}},
		{"drop the large one", map[int]proxyVerdict{2: proxyDrop}, upTo(2), true, proxyTally{packets: 2, lost: 1}},
		{"silence, then drop", map[int]proxyVerdict{1: proxySilence, 3: proxyDrop}, upTo(1), true, proxyTally{packets: 1, lost: 2}},
		{"silence to the end", map[int]proxyVerdict{1: proxySilence}, upTo(1), false, proxyTally{packets: 1, lost: 1}},
	}
	for _, c := range cases {
		for _, peek := range []int{0, 3, 1000} {
			for _, piece := range []int{1, 2, 7, len(whole)} {
				s := proxyStream{judge: &proxyScript{peek: peek, verdicts: c.verdicts}}
				out, cut := proxyFeed(&s, whole, piece)
				if cut != c.cut || !bytes.Equal(out, c.want) || s.tally != c.tally {
					t.Errorf("%s, peek %d, pieces of %d: %d bytes, want %d; cut %v; %+v, want %+v",
						c.name, peek, piece, len(out), len(c.want), cut, s.tally, c.tally)
				}
			}
		}
	}
}

func TestProxyStream_LimitsBodies(t *testing.T) {
	session := proxySession()
	for _, piece := range []int{1, 64} {
		script := &proxyScript{peek: 100}
		s := proxyStream{judge: script}
		proxyFeed(&s, bytes.Join(session, nil), piece)
		for i, packet := range session {
			header := 2
			if len(packet) > 129 {
				header = 3
			}
			want := packet[header:min(len(packet), header+100)]
			if script.seen[i] != packet[0] || !bytes.Equal(script.bodies[i], want) {
				t.Errorf("packet %d was shown as %x with %d bytes, want %x with %d", i, script.seen[i], len(script.bodies[i]), packet[0], len(want))
			}
		}
	}
}

func TestProxyStream_StartsBetweenPackets(t *testing.T) {
	session := proxySession()
	whole := bytes.Join(session, nil)
	for at := range whole {
		script := &proxyScript{idle: true, peek: 1000}
		s := proxyStream{judge: script}
		out, _ := s.feed(nil, whole[:at])
		if !bytes.Equal(out, whole[:at]) {
			t.Fatalf("unwatched, %d of %d bytes passed", len(out), at)
		}
		script.idle = false
		if out, _ = s.feed(out, whole[at:]); !bytes.Equal(out, whole) {
			t.Fatalf("watched from byte %d on, the stream changed", at)
		}
		begun := 0
		for n, i := 0, 0; n < at; i++ {
			n += len(session[i])
			begun++
		}
		if len(script.seen) != len(session)-begun {
			t.Errorf("watched from byte %d on, %d packets were shown, want %d", at, len(script.seen), len(session)-begun)
		}
	}
}

func TestProxyStream_IgnoresOtherProtocols(t *testing.T) {
	cases := map[string]struct {
		dir Direction
		in  []byte
	}{
		"TLS":                            {ToServer, []byte{0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3}},
		"WebSocket upgrade":              {ToServer, []byte("GET /mqtt HTTP/1.1\r\n\r\n")},
		"WebSocket answer":               {ToClient, []byte("HTTP/1.1 101 Switching Protocols\r\n\r\n")},
		"no CONNECT first":               {ToServer, []byte{0xC0, 0, 0xC0, 0}},
		"no CONNACK first":               {ToClient, []byte{0xD0, 0, 0xD0, 0}},
		"Remaining Length of five bytes": {ToServer, []byte{0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1, 2}},
	}
	for name, c := range cases {
		for _, idle := range []bool{false, true} {
			script := &proxyScript{idle: idle, peek: 1000, verdicts: map[int]proxyVerdict{0: proxyDrop}}
			s := proxyStream{dir: c.dir, judge: script}
			out, cut := proxyFeed(&s, c.in, 1)
			if !bytes.Equal(out, c.in) || cut || s.tally.opaque != 1 || len(script.seen) != 0 {
				t.Errorf("%s, idle %v: %x became %x, cut %v, %+v", name, idle, c.in, out, cut, s.tally)
			}
		}
	}
}

func TestProxyStream_ForwardsIncompletePacketAtEnd(t *testing.T) {
	whole := bytes.Join(proxySession(), nil)
	for at := range whole {
		s := proxyStream{judge: &proxyScript{peek: 1000}}
		out, _ := s.feed(nil, whole[:at])
		if out = s.rest(out); !bytes.Equal(out, whole[:at]) {
			t.Errorf("cut off at %d, %d bytes passed", at, len(out))
		}
	}
}

// FuzzProxyStream: without a fault no stream is changed, however it is cut up,
// and packets are found where wire.Reader finds them.
func FuzzProxyStream(f *testing.F) {
	whole := bytes.Join(proxySession(), nil)
	f.Add(whole, uint8(1), uint8(0), false)
	f.Add(whole[:40], uint8(7), uint8(9), true)
	f.Add([]byte{0x10, 0x80, 0, 0x30, 0xFF}, uint8(2), uint8(3), true)
	f.Fuzz(func(t *testing.T, in []byte, piece, peek uint8, idle bool) {
		script := &proxyScript{idle: idle, peek: int(peek)}
		s := proxyStream{judge: script}
		out, cut := proxyFeed(&s, in, int(piece)+1)
		if out = s.rest(out); cut || !bytes.Equal(out, in) {
			t.Fatalf("%x became %x", in, out)
		}
		var headers []byte
		r := wire.NewReader(bytes.NewReader(in), 0)
		for {
			frame, err := r.Next()
			if err != nil {
				if err == io.EOF && s.tally.opaque == 0 && s.tally.packets != len(headers) {
					t.Fatalf("%d packets found in %x, want %d", s.tally.packets, in, len(headers))
				}
				break
			}
			headers = append(headers, frame.Header)
		}
		if !idle && !bytes.HasPrefix(headers, script.seen[:min(len(script.seen), s.tally.packets)]) {
			t.Fatalf("saw %x in %x, want %x", script.seen, in, headers)
		}
	})
}

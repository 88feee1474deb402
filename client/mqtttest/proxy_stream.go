package mqtttest

import "github.com/mooring-mqtt/mooring/internal/wire"

// proxyVerdict is the decision about a packet and the rest of its stream.
type proxyVerdict byte

const (
	proxyPass      proxyVerdict = iota
	proxySilence                // drop this packet and all following packets
	proxyDrop                   // drop this packet, then cut
	proxyTear                   // forward half of it, then cut
	proxyCutBefore              // cut before its first byte
	proxyCutAfter               // forward it, then cut
)

// proxyJudge decides about the packets of one direction. The stream calls judge only if watch
// returns true. body is the part of the packet's body that watch requested.
type proxyJudge interface {
	watch() (packets bool, body int)
	judge(header byte, body []byte) proxyVerdict
}

// proxyStream detects the packets of one direction and applies verdicts. It holds back the first
// bytes of a packet only if packets are watched. It forwards a stream that is not MQTT unchanged,
// and marks it as opaque. proxyStream does no I/O and takes no locks.
type proxyStream struct {
	dir   Direction
	judge proxyJudge

	begun  bool // the first packet's header was accepted
	opaque bool // this is not MQTT
	silent bool // nothing is forwarded any more

	// State of the current packet.
	held    []byte       // first bytes, until the verdict
	watched bool         // held waits for a verdict; otherwise the packet is forwarded
	peek    int          // bytes of the body needed for the verdict
	header  int          // bytes of the fixed header; 0: incomplete
	size    int          // bytes of the body
	verdict proxyVerdict // the decision
	left    int          // bytes still to come after the verdict
	tear    int          // how many of these bytes to forward before the cut

	tally proxyTally
}

// proxyTally counts events of a stream since the last report.
type proxyTally struct{ packets, lost, torn, opaque int }

// feed processes received bytes, and appends the bytes that must be forwarded to out. If cut is
// true, the connection ends after out, and feed must not be called again.
func (s *proxyStream) feed(out, in []byte) (_ []byte, cut bool) {
	for len(in) > 0 && !cut {
		n := 1
		switch {
		case s.opaque:
			n = len(in)
			out = s.pass(out, in)
		case s.left > 0:
			n = min(s.left, len(in))
			out, cut = s.behind(out, in[:n])
		case s.header > 0:
			n = min(s.header+min(s.size, s.peek)-len(s.held), len(in))
			s.held = append(s.held, in[:n]...)
			out, cut = s.decide(out)
		default:
			out, cut = s.begin(out, in[0])
		}
		in = in[n:]
	}
	return out, cut
}

// rest appends the bytes of an incomplete packet that were held back.
func (s *proxyStream) rest(out []byte) []byte {
	if s.watched {
		out = s.pass(out, s.held)
	}
	s.held = nil
	return out
}

// begin processes one byte of a fixed header.
func (s *proxyStream) begin(out []byte, b byte) (_ []byte, cut bool) {
	if len(s.held) == 0 {
		s.watched, s.peek = s.judge.watch()
		s.watched = s.watched || s.silent
	}
	s.held = append(s.held, b)
	if !s.watched {
		out = append(out, b)
	}
	length, n := wire.Varint(s.held[1:])
	if n < 0 || !s.plausible(s.held[0]) {
		s.opaque = true
		s.tally.opaque++
		return s.rest(out), false
	}
	if n == 0 {
		return out, false
	}
	s.begun, s.header, s.size = true, 1+n, int(length)
	return s.decide(out)
}

// plausible reports whether header can begin a packet here. Only few packet types can begin a
// connection. This distinguishes MQTT from TLS and other protocols.
func (s *proxyStream) plausible(header byte) bool {
	if wire.CheckHeader(header) != nil {
		return false
	}
	switch t := PacketType(header >> 4); {
	case s.begun:
		return true
	case s.dir == ToServer:
		return t == CONNECT
	default:
		return t == CONNACK || t == AUTH || t == DISCONNECT
	}
}

// decide applies the verdict to the current packet once enough of it is held.
func (s *proxyStream) decide(out []byte) (_ []byte, cut bool) {
	s.verdict = proxyPass
	if s.watched {
		if len(s.held) < s.header+min(s.size, s.peek) {
			return out, false
		}
		s.verdict = s.judge.judge(s.held[0], s.held[s.header:])
	}
	total := s.header + s.size
	s.left = total - len(s.held)
	switch s.verdict {
	case proxyCutBefore:
		return out, true
	case proxySilence, proxyDrop:
		s.silent = true
	case proxyTear:
		s.tally.torn++
		half := total / 2 // at least 1: no packet is shorter than 2
		now := min(half, len(s.held))
		if s.tear = half - now; s.tear == 0 {
			return s.pass(out, s.held[:now]), true
		}
	}
	if s.watched {
		out = s.pass(out, s.held)
	}
	if cap(s.held) > 4<<10 {
		s.held = nil
	}
	s.held, s.header = s.held[:0], 0
	return out, s.left == 0 && s.end()
}

// behind processes the bytes of the current packet that arrive after its verdict.
func (s *proxyStream) behind(out, in []byte) (_ []byte, cut bool) {
	s.left -= len(in)
	if s.verdict == proxyTear {
		n := min(s.tear, len(in))
		s.tear -= n
		return s.pass(out, in[:n]), s.tear == 0
	}
	return s.pass(out, in), s.left == 0 && s.end()
}

// end counts a complete packet and reports whether a cut follows.
func (s *proxyStream) end() (cut bool) {
	switch {
	case s.verdict == proxySilence || s.verdict == proxyDrop:
		s.tally.lost++
	case !s.silent:
		s.tally.packets++
	}
	return s.verdict == proxyDrop || s.verdict == proxyCutAfter
}

func (s *proxyStream) pass(out, b []byte) []byte {
	if s.silent {
		return out
	}
	return append(out, b...)
}

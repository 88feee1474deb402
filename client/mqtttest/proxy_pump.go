package mqtttest

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	proxyChunkSize = 8 << 10
	proxyChunks    = 128 // chunks in transit in one direction: 1 MiB at most
)

// proxyPump moves the bytes of one direction of a link. Its reader detects packets and applies
// packet faults. Its writer applies delays, stalls and throttling. A bounded queue connects the
// two, so many bytes can be in transit at the same time during a delay.
type proxyPump struct {
	p        *Proxy
	link     *proxyLink
	dir      Direction
	src, dst net.Conn
	stream   proxyStream
	queue    chan proxyChunk

	random *rand.Rand // used by the reader
	paced  time.Time  // when throttling allows the next byte; used by the writer
}

// proxyChunk is a piece of the stream, or its end.
type proxyChunk struct {
	data *[]byte // nil for the end
	due  time.Time
	end  proxyEnd
}

type proxyEnd byte

const (
	proxyEndClosed proxyEnd = iota // the sender closed its side
	proxyEndReset                  // the sender's connection broke
	proxyEndCut                    // a fault ended the stream
)

var proxyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, proxyChunkSize); return &b }}

func newProxyPump(l *proxyLink, dir Direction, src, dst net.Conn) *proxyPump {
	m := &proxyPump{p: l.p, link: l, dir: dir, src: src, dst: dst,
		queue:  make(chan proxyChunk, proxyChunks),
		random: rand.New(rand.NewPCG(l.seed, l.id<<1|uint64(dir)))}
	m.stream = proxyStream{dir: dir, judge: m}
	return m
}

// read reads from the sender until the sender or a fault ends the stream.
func (m *proxyPump) read() {
	in := make([]byte, proxyChunkSize)
	var out []byte
	for {
		n, err := m.src.Read(in)
		var cut bool
		if out, cut = m.stream.feed(out[:0], in[:n]); err == io.EOF && !cut {
			out = m.stream.rest(out)
		}
		pass, ration := m.p.ration(m.dir, len(out))
		m.report()
		if !m.send(out[:pass]) {
			return
		}
		switch {
		case cut || ration:
			m.push(proxyChunk{end: proxyEndCut})
			return
		case err == io.EOF:
			m.push(proxyChunk{end: proxyEndClosed})
			return
		case err != nil:
			m.push(proxyChunk{end: proxyEndReset})
			return
		}
		if cap(out) > 4*proxyChunkSize {
			out = nil
		}
	}
}

// report adds the counters of the stream to the statistics.
func (m *proxyPump) report() {
	if m.stream.tally == (proxyTally{}) {
		return
	}
	t := m.stream.tally
	m.stream.tally = proxyTally{}
	m.p.note(func(s *ProxyStats) {
		s.flow(m.dir).Packets += int64(t.packets)
		s.Lost += t.lost
		s.Torn += t.torn
		s.Opaque += t.opaque
	})
}

// send queues b. It returns false if the link has ended.
func (m *proxyPump) send(b []byte) bool {
	for len(b) > 0 {
		data := proxyBuffers.Get().(*[]byte)
		n := min(len(b), proxyChunkSize)
		*data = append((*data)[:0], b[:n]...)
		if !m.push(proxyChunk{data: data}) {
			return false
		}
		b = b[n:]
	}
	return true
}

// push sets the earliest delivery time of a chunk and waits for space in the queue. The chunks stay
// in order, regardless of their times.
func (m *proxyPump) push(c proxyChunk) bool {
	shape := m.p.shape.Load()
	if shape.delay > 0 || shape.jitter > 0 {
		c.due = time.Now().Add(shape.delay)
		if shape.jitter > 0 {
			c.due = c.due.Add(time.Duration(m.random.Int64N(int64(shape.jitter))))
		}
	}
	select {
	case m.queue <- c:
		return true
	case <-m.link.ctx.Done():
		return false
	}
}

// write delivers the queued chunks, each at its time.
func (m *proxyPump) write() {
	for {
		select {
		case <-m.link.ctx.Done():
			return
		case c := <-m.queue:
			if !m.await(c.due) {
				return
			}
			if c.data == nil {
				m.end(c.end)
				return
			}
			ok := m.deliver(*c.data)
			proxyBuffers.Put(c.data)
			if !ok {
				return
			}
		}
	}
}

func (m *proxyPump) end(how proxyEnd) {
	if !m.flowing(m.dir) {
		return
	}
	if m.link.swallowed.Load() {
		if m.link.gone.Add(1) == 2 {
			m.link.abort()
		}
		<-m.link.ctx.Done()
		return
	}
	switch how {
	case proxyEndCut:
		m.link.cutBehind(m.src, m.dst)
	case proxyEndClosed:
		proxyCloseWrite(m.dst)
	case proxyEndReset:
		m.link.abort()
	}
}

// await waits until due.
func (m *proxyPump) await(due time.Time) bool {
	if due.IsZero() {
		return true
	}
	left := time.Until(due)
	return left <= 0 || proxyWait(m.link.ctx, left, nil)
}

// flowing waits for the end of a stall of dir, or for Swallow. It returns false if the link has ended.
func (m *proxyPump) flowing(dir Direction) bool {
	for {
		shape := m.p.shape.Load()
		stalled, left := shape.stall(dir)
		if !stalled || m.link.swallowed.Load() {
			return m.link.ctx.Err() == nil
		}
		if !proxyWait(m.link.ctx, left, shape.changed) {
			return false
		}
	}
}

// deliver writes b in fragments and at the configured rate.
func (m *proxyPump) deliver(b []byte) bool {
	for len(b) > 0 {
		if !m.flowing(m.dir) {
			return false
		}
		if m.link.swallowed.Load() {
			return true
		}
		shape, n := m.p.shape.Load(), len(b)
		if shape.fragment > 0 {
			n = min(n, shape.fragment)
		}
		if shape.rate > 0 {
			if left := time.Until(m.paced); left > 0 {
				if !proxyWait(m.link.ctx, left, shape.changed) {
					return false
				}
				continue
			}
			n = min(n, max(1, shape.rate/50)) // 20 ms at a time
		}
		n, err := m.dst.Write(b[:n])
		if shape.rate > 0 {
			m.paced = time.Now().Add(time.Duration(n) * time.Second / time.Duration(shape.rate))
		}
		m.p.note(func(s *ProxyStats) { s.flow(m.dir).Bytes += int64(n) })
		if err != nil {
			// The reset travels in the other direction, so it waits for the end of a stall in that
			// direction.
			if m.flowing(m.dir.opposite()) && !m.link.swallowed.Load() {
				m.link.abort()
			}
			return false
		}
		b = b[n:]
	}
	return true
}

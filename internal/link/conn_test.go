package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// gate is a net.Conn whose writes block until it is opened.
type gate struct {
	net.Conn
	mu      sync.Mutex
	changed sync.Cond
	open    bool
	out     []byte
	writes  int
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed.L = &g.mu
	for g.writes++; !g.open; {
		g.changed.Wait()
	}
	g.out = append(g.out, p...)
	return len(p), nil
}

// began returns the number of writes that have begun.
func (g *gate) began() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.writes
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	g.changed.Broadcast()
}

func (g *gate) bytes() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out
}

func (g *gate) SetWriteDeadline(time.Time) error { return nil }
func (g *gate) Close() error                     { return nil }

// numbered is a packet that contains its sender and number.
func numbered(sender, n int) []byte {
	payload := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(sender)), uint32(n))
	return wire.AppendPublish(nil, &wire.Publish{Topic: "t", Payload: payload})
}

// waits returns the output that waits for the present write.
func (c *Conn) waits() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.out)
}

// Packets that are sent during a write are collected and written together.
func TestSend_WritesConcurrentPacketsTogether(t *testing.T) {
	w := &gate{}
	c := newConn(w, 0, time.Second)
	var all sync.WaitGroup
	send := func(i int) {
		all.Go(func() {
			if err := c.Send(func(dst []byte) []byte { return append(dst, numbered(i, 0)...) }); err != nil {
				t.Error(err)
			}
		})
	}
	send(0)
	for w.began() == 0 {
		runtime.Gosched()
	}
	for i := range 100 {
		send(1 + i)
	}
	for len(c.waits()) < 100*len(numbered(0, 0)) { // all but the first are in the output
		runtime.Gosched()
	}
	w.release()
	all.Wait()
	c.flushing.Wait()
	if got := len(w.bytes()) / len(numbered(0, 0)); got != 101 || w.began() != 2 {
		t.Errorf("%d packets in %d writes, want 101 in 2", got, w.began())
	}
}

// paho writes its packets in parts. No other packet comes between the parts, and the order of each
// sender is kept.
func TestConn_KeepsTheOrderOfConcurrentWriters(t *testing.T) {
	w := &gate{open: true}
	c := newConn(w, 0, time.Second)
	const senders, count = 8, 500
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() {
			for n := range count {
				p := numbered(s, n)
				if s%2 == 0 {
					if err := c.Send(func(dst []byte) []byte { return append(dst, p...) }); err != nil {
						t.Error(err)
					}
					continue
				}
				c.Lock()
				for _, piece := range [][]byte{p[:1], p[1:5], p[5:]} {
					if _, err := c.Write(piece); err != nil {
						t.Error(err)
					}
				}
				c.Unlock()
			}
		})
	}
	all.Wait()
	c.flushing.Wait()
	r := wire.NewReader(bytes.NewReader(w.bytes()), 0)
	next := map[uint32]uint32{}
	for range senders * count {
		f, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		v, err := wire.ParsePublish(f)
		if err != nil {
			t.Fatal(err)
		}
		s, n := binary.BigEndian.Uint32(v.Payload), binary.BigEndian.Uint32(v.Payload[4:])
		if next[s] != n {
			t.Fatalf("sender %d: packet %d, want %d", s, n, next[s])
		}
		next[s]++
	}
	if w.began() > senders*count {
		t.Errorf("%d writes for %d packets", w.began(), senders*count)
	}
}

// A DISCONNECT is written after the waiting output, and nothing is written after it
// [MQTT-3.14.4-1]. paho closes the connection immediately afterwards.
func TestUnlock_DisconnectIsTheLastPacket(t *testing.T) {
	w := &gate{}
	c := newConn(w, 0, time.Second)
	if err := c.Post(t.Context(), ping); err != nil {
		t.Fatal(err)
	}
	for w.began() == 0 {
		runtime.Gosched()
	}
	if err := c.Send(ping); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		c.Lock()
		_, _ = c.Write(control.AppendDisconnect(nil, &control.Disconnect{}))
		c.Unlock()
		if got := w.bytes(); !bytes.Equal(got, []byte{0xC0, 0, 0xC0, 0, 0xE0, 0}) {
			t.Errorf("written when Unlock returns: %x", got)
		}
	})
	for len(c.waits()) < 4 {
		runtime.Gosched()
	}
	for range 10 {
		all.Go(func() {
			if err := c.Send(ping); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Send after DISCONNECT: %v", err)
			}
		})
	}
	for waiters := 0; waiters < 10 && len(c.waits()) == 4; runtime.Gosched() {
		c.mu.Lock()
		waiters = c.waiters
		c.mu.Unlock()
	}
	w.release()
	all.Wait()
	if got := len(w.bytes()); got != 6 {
		t.Errorf("%d bytes written, want 6", got)
	}
}

func TestUp_Disconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p, up := r.up(control.Connack{})
		done := make(chan error)
		go func() { done <- up.Disconnect(Disconnect{Reason: wire.ReasonDisconnectWithWill}) }()
		if d, err := control.ParseDisconnect(p.next(wire.DISCONNECT)); err != nil || d.Reason != 0x04 {
			t.Errorf("%+v, %v", d, err)
		}
		p.gone()
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-r.downs
		r.end()
	})
}

// If a peer stops reading, Send blocks for the write timeout. Packets that the peer sends meanwhile
// are still received.
func TestSend_FailsAfterWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p, up := r.up(control.Connack{})
		began := time.Now()
		result := make(chan error)
		go func() { result <- up.Send(ping) }()
		synctest.Wait()
		p.send(wire.AppendPublish(nil, &wire.Publish{Topic: "heard"}))
		if topic := <-r.delivered; topic != "heard" || time.Since(began) != 0 {
			t.Errorf("heard %q after %v", topic, time.Since(began))
		}
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("got %v after %v, want a timeout after 3s", err, time.Since(began))
		}
		if err := up.Send(ping); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the next Send: %v", err)
		}
		if err := <-r.downs; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection ended with %v", err)
		}
		r.end()
	})
}

// If the peer does not read, a violation closes the connection soon, without a DISCONNECT.
func TestFail_ClosesAlthoughAWriterIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p, up := r.up(control.Connack{})
		began := time.Now()
		stuck := make(chan error)
		go func() { stuck <- up.Send(ping) }()
		synctest.Wait()
		p.send([]byte{0xD1, 0})
		wantCode(t, <-r.downs, 0x81)
		if err := <-stuck; err == nil || time.Since(began) > closeTimeout+time.Second/100 {
			t.Errorf("Send returned %v after %v", err, time.Since(began))
		}
		r.end()

		// If only the write of the DISCONNECT blocks, it is given up soon.
		r = run(t, nil)
		p, _ = r.up(control.Connack{})
		began = time.Now()
		p.send([]byte{0xD1, 0})
		wantCode(t, <-r.downs, 0x81)
		if d := time.Since(began); d > closeTimeout {
			t.Errorf("took %v", d)
		}
		r.end()
	})
}

// Whoever observes the failure closes the connection, so the DISCONNECT must be written before.
func TestFail_SendsDisconnectBeforeItReportsTheEnd(t *testing.T) {
	w := &gate{}
	c := newConn(w, 0, time.Second)
	c.gen.Store(&session.Generation{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Fail(&wire.Error{Code: wire.ReasonProtocolError})
	}()
	for w.began() == 0 {
		runtime.Gosched()
	}
	if c.Cause() != nil {
		t.Error("the end was announced while the DISCONNECT was being written")
	}
	w.release()
	<-done
	if got := w.bytes(); !bytes.Equal(got, []byte{0xE0, 1, 0x82}) || c.Cause() == nil {
		t.Errorf("written %x, cause %v", got, c.Cause())
	}
}

// If another goroutine writes for a moment, the DISCONNECT with the reason is sent afterwards.
func TestFail_SendsDisconnectAfterAShortWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &gate{open: true}
		c := newConn(w, 0, time.Second)
		c.gen.Store(&session.Generation{})
		c.Lock() // as paho does for each packet
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Fail(&wire.Error{Code: wire.ReasonProtocolError})
		}()
		synctest.Wait()
		c.Unlock()
		<-done
		if got := w.bytes(); !bytes.Equal(got, []byte{0xE0, 1, 0x82}) {
			t.Errorf("written %x", got)
		}
	})
}

func TestFail_FirstErrorIsTheCause(t *testing.T) {
	c := newConn(&gate{open: true}, 0, time.Second)
	if c.Cause() != nil {
		t.Errorf("before: %v", c.Cause())
	}
	first := errors.New("first")
	c.Fail(first)
	c.Fail(errors.New("second"))
	_ = c.Close()
	<-c.Failed()
	if c.Cause() != first {
		t.Errorf("cause %v", c.Cause())
	}
}

func BenchmarkSend(b *testing.B) {
	c := newConn(discard{}, 0, time.Second)
	packet := wire.AppendPublish(nil, &wire.Publish{Topic: "plant/7/temp", Payload: make([]byte, 256)})
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = c.Send(func(dst []byte) []byte { return append(dst, packet...) })
		}
	})
}

type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error)      { return len(p), nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }

// hooked is a net.Conn that calls a function when it is written to.
type hooked struct {
	net.Conn
	write func()
}

func (h hooked) Write(p []byte) (int, error)      { h.write(); return len(p), nil }
func (h hooked) SetWriteDeadline(time.Time) error { return nil }

// Whoever finds the connection broken closes it, as paho does. The cause must be set before,
// because otherwise the cause would be "closed".
func TestFail_SetsCauseBeforeWritersFail(t *testing.T) {
	for range 200 {
		near, far := net.Pipe()
		var conn *Conn
		var found error
		spins, done := make(chan struct{}), make(chan struct{})
		conn = newConn(hooked{near, func() {
			go func() {
				defer close(done)
				close(spins)
				for i := 1; !conn.mu.TryLock(); i++ {
					if i%1000 == 0 {
						runtime.Gosched()
					}
				}
				found = conn.Cause()
				conn.mu.Unlock()
			}()
			<-spins
		}}, 0, time.Second)
		reason := &CloseError{Reason: wire.ReasonQuotaExceeded, Err: errors.New("the reason")}
		conn.Fail(reason)
		<-done
		_ = far.Close()
		if found != error(reason) {
			t.Fatalf("the connection is broken and the cause is %v, want %v", found, reason)
		}
	}
}

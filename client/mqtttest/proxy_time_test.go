package mqtttest

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// proxyBubble runs f with a connection through a pipe proxy on fake time. What
// would hang is reported as a deadlock by synctest.
func proxyBubble(t *testing.T, f func(t *testing.T, p *Proxy, client, server *proxyEndpoint)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, dial := newPipeField(t)
		client, server := dial()
		f(t, p, client, server)
	})
}

// newPipeField makes a pipe proxy and a function that connects through it.
func newPipeField(t *testing.T) (*Proxy, func() (client, server *proxyEndpoint)) {
	far := make(chan net.Conn, 1)
	p := NewPipeProxy(func(context.Context) (net.Conn, error) {
		near, conn := net.Pipe()
		far <- conn
		return near, nil
	})
	t.Cleanup(func() { _ = p.Close() })
	return p, func() (client, server *proxyEndpoint) {
		conn, err := p.Dial()
		if err != nil {
			t.Fatal(err)
		}
		other := <-far
		t.Cleanup(func() { _ = conn.Close(); _ = other.Close() })
		return &proxyEndpoint{conn, t, wire.NewReader(conn, 0)}, &proxyEndpoint{other, t, wire.NewReader(other, 0)}
	}
}

// proxyArrivals sends n packets 10 ms apart and says when each arrived, counted
// from when it was sent.
func proxyArrivals(t *testing.T, from, to *proxyEndpoint, n int) (late []time.Duration) {
	t.Helper()
	sent := make([]time.Time, n)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range sent {
			sent[i] = time.Now()
			_, _ = from.Write(proxyPing)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	got := make([]byte, len(proxyPing))
	for i := range n {
		if _, err := io.ReadFull(to, got); err != nil {
			t.Fatal(err)
		}
		late = append(late, time.Since(sent[i]))
	}
	<-done
	return late
}

func TestProxyDelay_DoesNotLimitThroughput(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		p.Delay(time.Second, 0) // a hundred packets are on their way at a time
		for i, late := range proxyArrivals(t, client, server, 120) {
			if late != time.Second {
				t.Errorf("to server, packet %d took %v, want 1s", i, late)
			}
		}
		for i, late := range proxyArrivals(t, server, client, 3) {
			if late != time.Second {
				t.Errorf("to client, packet %d took %v, want 1s", i, late)
			}
		}
		p.Delay(0, 0)
		if late := proxyArrivals(t, client, server, 1); late[0] != 0 {
			t.Errorf("after Delay(0, 0) a packet took %v", late[0])
		}
	})
}

func TestProxyDelay_JitterFollowsSeed(t *testing.T) {
	run := func(seed uint64) (late []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			p, dial := newPipeField(t)
			p.Seed(seed)
			client, server := dial()
			p.Delay(100*time.Millisecond, 50*time.Millisecond)
			late = proxyArrivals(t, client, server, 50)
		})
		return late
	}
	first := run(7)
	for i, late := range first {
		if late < 100*time.Millisecond || late >= 150*time.Millisecond {
			t.Errorf("packet %d took %v", i, late)
		}
	}
	if slices.Min(first) == slices.Max(first) {
		t.Error("there is no jitter")
	}
	if !slices.Equal(first, run(7)) {
		t.Error("the same seed gave another run")
	}
	if slices.Equal(first, run(8)) {
		t.Error("another seed gave the same run")
	}
}

func TestProxyDelay_KeepsOrder(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		p.Delay(time.Second, time.Second)
		go func() {
			for i := range 100 {
				_, _ = client.Write(proxyPublish(uint16(i)+1, 10))
			}
			p.Delay(0, 0) // what comes now does not overtake
			_, _ = client.Write(proxyPing)
		}()
		for i := range 100 {
			server.expect(proxyPublish(uint16(i)+1, 10))
		}
		server.expect(proxyPing)
	})
}

func TestProxyThrottle(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		for _, rate := range []int{10, 1000, 100_000} {
			p.Throttle(rate)
			began := time.Now()
			go func() { _, _ = client.Write(make([]byte, 3*rate)) }()
			if _, err := io.ReadFull(server, make([]byte, 3*rate)); err != nil {
				t.Fatal(err)
			}
			want := 3 * time.Second
			if took := time.Since(began); took > want || took < want*9/10 {
				t.Errorf("3 seconds' worth at %d bytes/s took %v", rate, took)
			}
			time.Sleep(time.Second)
		}
		p.Throttle(1)
		began := time.Now()
		go func() {
			_, _ = client.Write(make([]byte, 1000))
			time.Sleep(5 * time.Second)
			p.Throttle(0)
		}()
		if _, err := io.ReadFull(server, make([]byte, 1000)); err != nil || time.Since(began) != 5*time.Second {
			t.Errorf("%v, %v after the end of the throttle", err, time.Since(began)-5*time.Second)
		}
	})
}

func TestProxyFragment(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		for _, n := range []int{1, 3, 7} {
			p.Fragment(n)
			publish := proxyPublish(1, 40)
			client.send(publish)
			var got []byte
			piece := make([]byte, 100)
			for len(got) < len(publish) {
				size, err := server.Read(piece)
				if err != nil || size > n {
					t.Fatalf("a piece of %d bytes, %v, want at most %d", size, err, n)
				}
				got = append(got, piece[:size]...)
			}
			if !bytes.Equal(got, publish) {
				t.Errorf("got %x, want %x", got, publish)
			}
		}
	})
}

func TestProxyStall_OneDirection(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		p.Stall(ToClient)
		client.send(proxyPing)
		server.expect(proxyPing)
		server.send(proxyConnack, proxyPong)
		_ = client.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := client.r.Next(); err != os.ErrDeadlineExceeded && !os.IsTimeout(err) {
			t.Fatalf("got %v through a stalled link", err)
		}
		_ = client.SetReadDeadline(time.Time{})
		p.Resume(ToServer) // the wrong one
		synctest.Wait()
		p.Resume()
		client.expect(proxyConnack, proxyPong)
		if s := p.Stats(); s.Stalls != 1 || s.Cuts != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestProxyStallFor_Ends(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		began := time.Now()
		p.StallFor(5 * time.Second)
		client.send(proxyPing)
		server.expect(proxyPing)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// On a half-open link a peer does not even learn that the other one is gone.
func TestProxyStall_HidesEndOfConnection(t *testing.T) {
	for _, dirs := range [][]Direction{nil, {ToServer}} {
		proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
			p.Stall(dirs...)
			_ = client.Close()
			server.send(proxyConnack) // comes to nobody
			_ = server.SetReadDeadline(time.Now().Add(time.Hour))
			if _, err := server.r.Next(); !os.IsTimeout(err) {
				t.Fatalf("stalled %v: got %v", dirs, err)
			}
			_ = server.SetReadDeadline(time.Time{})
			p.Resume()
			server.expectEnd()
		})
	}
}

// The existing connection loses everything, and a new one is not affected.
func TestProxySwallow(t *testing.T) {
	for _, stalled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p, dial := newPipeField(t)
			client, server := dial()
			if stalled {
				p.Stall()
				client.send(proxyPing)
				synctest.Wait()
			}
			p.Swallow()
			for range 300 { // more than the proxy buffers
				client.send(proxyPublish(1, 8<<10))
			}
			server.send(proxyConnack)
			p.Resume()
			_ = client.Close()
			_ = server.SetReadDeadline(time.Now().Add(time.Hour))
			if _, err := server.r.Next(); !os.IsTimeout(err) {
				t.Fatalf("stalled %v: got %v", stalled, err)
			}
			other, broker := dial()
			other.send(proxyPing)
			broker.expect(proxyPing)
			if n := p.Stats().Open; n != 2 {
				t.Errorf("%d connections are open, want 2", n)
			}
			_ = server.Close()
			synctest.Wait()
			if n := p.Stats().Open; n != 1 {
				t.Errorf("%d connections are open after both ends have closed one, want 1", n)
			}
		})
	}
}

// A new connection stalls too.
func TestProxyStall_NewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dial := newPipeField(t)
		p.Stall()
		client, server := dial()
		client.send(proxyPing)
		_ = server.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := server.r.Next(); !os.IsTimeout(err) {
			t.Fatalf("got %v", err)
		}
		_ = server.SetReadDeadline(time.Time{})
		p.Resume()
		server.expect(proxyPing)
	})
}

func TestProxy_LimitsBuffers(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		p.Stall()
		taken := 0
		_ = client.SetWriteDeadline(time.Now().Add(time.Hour))
		for piece := make([]byte, 1<<10); ; {
			n, err := client.Write(piece)
			if taken += n; err != nil {
				break
			}
			if taken > 4<<20 {
				t.Fatal("there is no limit")
			}
		}
		if taken > 1<<20+32<<10 { // the queue, and what the pump holds in its hands
			t.Errorf("%d bytes were taken", taken)
		}
		p.Resume()
		if _, err := io.ReadFull(server, make([]byte, taken)); err != nil {
			t.Errorf("what was taken did not arrive: %v", err)
		}
	})
}

func TestProxyCut_EndsWaitingConnections(t *testing.T) {
	for name, condition := range map[string]func(*Proxy){
		"stalled":   func(p *Proxy) { p.Stall() },
		"delayed":   func(p *Proxy) { p.Delay(time.Hour, 0) },
		"throttled": func(p *Proxy) { p.Throttle(1) },
	} {
		t.Run(name, func(t *testing.T) {
			proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
				began := time.Now()
				condition(p)
				client.send(make([]byte, 100_000))
				p.Cut()
				_, _ = io.Copy(io.Discard, server)
				_, _ = io.Copy(io.Discard, client)
				if took := time.Since(began); took != 0 {
					t.Errorf("the cut took %v", took)
				}
				synctest.Wait()
				if s := p.Stats(); s.Cuts != 1 || s.Open != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestProxyLose_DeliversEarlierBytes(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		p.Delay(time.Second, 0)
		p.Lose(ToClient, PUBACK)
		server.send(proxyConnack, proxyPong, proxyPuback(1))
		client.expect(proxyConnack, proxyPong)
		client.expectEnd()
	})
}

func TestProxySchedule(t *testing.T) {
	proxyBubble(t, func(t *testing.T, p *Proxy, client, server *proxyEndpoint) {
		began := time.Now()
		var at []time.Duration
		mark := func(*Proxy) { at = append(at, time.Since(began)) }
		p.Schedule(ProxyStep{0, mark}, ProxyStep{time.Second, mark}, ProxyStep{time.Minute, (*Proxy).Cut}, ProxyStep{0, mark})
		client.expectEnd()
		server.expectEnd()
		synctest.Wait()
		if !slices.Equal(at, []time.Duration{0, time.Second, 61 * time.Second}) {
			t.Errorf("the steps ran at %v", at)
		}
		stop := p.Schedule(ProxyStep{time.Hour, mark})
		stop()
		time.Sleep(2 * time.Hour)
		if len(at) != 3 {
			t.Error("a stopped schedule went on")
		}
	})
}

func TestProxyCutEvery_FollowsSeed(t *testing.T) {
	run := func(seed uint64) (intervals []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			p, dial := newPipeField(t)
			p.Seed(seed)
			stop := p.CutEvery(time.Second, 3*time.Second)
			for range 10 {
				began := time.Now()
				client, _ := dial()
				client.expectEnd()
				intervals = append(intervals, time.Since(began))
			}
			stop()
			client, server := dial()
			time.Sleep(time.Hour)
			client.send(proxyPing)
			server.expect(proxyPing)
		})
		return intervals
	}
	first := run(7)
	if slices.Min(first) < time.Second || slices.Max(first) > 3*time.Second {
		t.Errorf("cut after %v", first)
	}
	if !slices.Equal(first, run(7)) || slices.Equal(first, run(8)) {
		t.Error("the intervals do not follow the seed")
	}
}

func TestProxyClose_WaitsForSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPipeField(t)
		p.Schedule(ProxyStep{0, func(*Proxy) { time.Sleep(time.Hour) }})
		synctest.Wait()
		began := time.Now()
		if err := p.Close(); err != nil || time.Since(began) != time.Hour {
			t.Errorf("Close returned %v after %v", err, time.Since(began))
		}
	})
}

// proxyHalfPipe is a pipe with the one thing TCP can do that it cannot: say
// that no more comes, and still read.
type proxyHalfPipe struct {
	net.Conn
	closed chan struct{}
}

func (c proxyHalfPipe) CloseWrite() error {
	close(c.closed)
	return nil
}

// A socket closed with bytes unread is reset, and a reset may overtake what the
// receiver was still to get.
func TestProxy_ReadsAfterOrderlyCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, server := net.Pipe()
		half := proxyHalfPipe{near, make(chan struct{})}
		p := NewPipeProxy(func(context.Context) (net.Conn, error) { return half, nil })
		defer func() { _ = p.Close() }()
		client, err := p.Dial()
		if err != nil {
			t.Fatal(err)
		}
		p.CutAfter(ToServer, 5)
		if _, err := client.Write(proxyConnect); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		<-half.closed
		began := time.Now()
		for err == nil {
			_, err = server.Write(proxyPong) // taken, and thrown away
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < time.Second || took > 1200*time.Millisecond {
			t.Errorf("the receiver had %v to notice", took)
		}
		if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
			t.Errorf("the sender got %x, %v", b, err)
		}
	})
}

package link

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// On an idle connection a message is written before Post returns, even if the caller then keeps its
// processor. Occasionally the scheduler resumes the caller first.
func TestPost_IdleConnection(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w := &gate{open: true}
	c := newConn(w, 0, time.Second)
	written := 0
	const count = 100
	for i := range count {
		time.Sleep(2 * quiet)
		if err := c.Post(t.Context(), ping); err != nil {
			t.Fatal(err)
		}
		if w.began() == i+1 {
			written++
		}
	}
	c.flushing.Wait()
	if written < count*3/4 {
		t.Errorf("%d of %d messages were written when Post returned", written, count)
	}
}

// Messages of a single goroutine are coalesced too.
func TestPost_Coalesces(t *testing.T) {
	w := &gate{}
	c := newConn(w, 0, time.Second)
	const count = 1000
	for range count {
		if err := c.Post(t.Context(), ping); err != nil {
			t.Fatal(err)
		}
	}
	w.release()
	c.flushing.Wait()
	if got := len(w.bytes()); got != 2*count || w.began() > 2 {
		t.Errorf("%d bytes in %d writes, want %d in 2", got, w.began(), 2*count)
	}
}

// While a peer reads nothing and the output is full, Post waits until its context ends. A message
// whose Post has failed is not counted as lost.
func TestPost_PeerThatReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		_, up := r.up(control.Connack{})
		began, posted := time.Now(), 0
		big := func(dst []byte) []byte {
			return wire.AppendPublish(dst, &wire.Publish{Topic: "t", Payload: make([]byte, 1000)})
		}
		var err error
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		for ; err == nil && posted < 1000; posted++ {
			err = up.Post(ctx, big)
		}
		posted--
		if err != context.Cause(ctx) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if size := len(up.waits()); size < outputLimit || size > outputLimit+1100 {
			t.Errorf("%d bytes wait, want %d and one message", size, outputLimit)
		}
		if err := up.Post(t.Context(), big); err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("after %v: %v, want the write timeout", time.Since(began), err)
		}
		<-r.downs
		if got := up.Unsent(); got != posted {
			t.Errorf("%d messages lost, want %d", got, posted)
		}
		r.end()
	})
}

// All writers that wait for room get it.
func TestPost_ManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &gate{}
		c := newConn(w, 0, time.Second)
		const count = 100
		done := make(chan error, count)
		for range count {
			go func() {
				done <- c.Post(t.Context(), func(dst []byte) []byte { return append(dst, make([]byte, outputLimit/2)...) })
			}()
		}
		for len(c.waits()) < outputLimit {
			runtime.Gosched()
		}
		w.release()
		for range count {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		c.flushing.Wait()
		if got := len(w.bytes()); got != count*outputLimit/2 {
			t.Errorf("%d bytes written, want %d", got, count*outputLimit/2)
		}
	})
}

// A violation by the peer is answered even if others publish continuously.
func TestFail_WhileOthersPost(t *testing.T) {
	w := &gate{open: true}
	c := newConn(w, 0, time.Second)
	c.gen.Store(&session.Generation{})
	for range 4 {
		c.flushing.Go(func() {
			for c.Post(t.Context(), ping) == nil {
			}
		})
	}
	for w.began() < 100 {
		runtime.Gosched()
	}
	c.Fail(&wire.Error{Code: wire.ReasonProtocolError})
	c.flushing.Wait()
	out := w.bytes()
	if tail := out[len(out)-3:]; string(tail) != "\xE0\x01\x82" {
		t.Errorf("written last: %x", tail)
	}
}

func TestPost_AllocatesNothing(t *testing.T) {
	c := newConn(discard{}, 0, time.Second)
	post := func() {
		if err := c.Post(context.Background(), ping); err != nil {
			t.Fatal(err)
		}
	}
	for range 10_000 { // let the buffers grow
		post()
	}
	if n := testing.AllocsPerRun(10_000, post); n > 0 {
		t.Errorf("%v allocations for each message", n)
	}
	c.flushing.Wait()
}

// After the end of a connection nothing is appended, and no goroutine writes.
func TestPost_AfterTheEnd(t *testing.T) {
	w := &gate{open: true}
	c := newConn(w, 0, time.Second)
	c.endOutput()
	if err := c.Post(t.Context(), ping); err == nil || w.began() > 0 {
		t.Errorf("Post: %v, %d writes", err, w.began())
	}
}

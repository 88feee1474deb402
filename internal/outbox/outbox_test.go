package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// hooked is a store that calls the test.
type hooked struct {
	*persistence.Memory
	enqueued  func(persistence.Ticket)                 // before Enqueue returns
	marking   func()                                   // before SetSent
	reading   func(*persistence.Cursor) error          // before Next
	reset     func() error                             // before ResetSession
	end       func()                                   // after Next, at the end of the log
	deferring func(uint64, persistence.Deferral) error // before Defer
	ending    func(seq uint64)                         // before Done
	getting   func(seq uint64) error                   // before Get
	syncs     int
	mu        sync.Mutex // guards deferring, ending and getting; held while deferring and getting run
}

func (s *hooked) Enqueue(ctx context.Context, m *persistence.Message) (persistence.Ticket, error) {
	t, err := s.Memory.Enqueue(ctx, m)
	if err == nil && s.enqueued != nil {
		s.enqueued(t)
	}
	return t, err
}

func (s *hooked) SetSent(p persistence.Priority, number uint64) error {
	if s.marking != nil {
		s.marking()
	}
	return s.Memory.SetSent(p, number)
}

func (s *hooked) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	if s.reading != nil {
		if err := s.reading(c); err != nil {
			return false, err
		}
	}
	ok, err := s.Memory.Next(c, e)
	if !ok && s.end != nil {
		s.end()
	}
	return ok, err
}

func (s *hooked) ResetSession(owner string) error {
	if s.reset != nil {
		if err := s.reset(); err != nil {
			return err
		}
	}
	return s.Memory.ResetSession(owner)
}

// set changes deferring, ending or getting while the send loop may use them.
func (s *hooked) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *hooked) Defer(seq uint64, d persistence.Deferral) (err error) {
	s.set(func() {
		if s.deferring != nil {
			err = s.deferring(seq, d)
		}
	})
	if err != nil {
		return err
	}
	return s.Memory.Defer(seq, d)
}

func (s *hooked) Done(seq uint64, r persistence.Result) error {
	var ending func(uint64)
	s.set(func() { ending = s.ending })
	if ending != nil {
		ending(seq)
	}
	return s.Memory.Done(seq, r)
}

func (s *hooked) Get(seq uint64, e *persistence.Entry) (ok bool, err error) {
	s.set(func() {
		if s.getting != nil {
			err = s.getting(seq)
		}
	})
	if err != nil {
		return false, err
	}
	return s.Memory.Get(seq, e)
}

func (s *hooked) Sync() error { s.syncs++; return s.Memory.Sync() }

// hookedRig is a rig whose outbox uses a hooked store.
func hookedRig(t testing.TB, cfg outbox.Config, o persistence.Options) (*rig, *hooked) {
	s := &hooked{Memory: persistence.NewMemory(o)}
	cfg.Store = s
	return newRig(t, cfg, s.Memory), s
}

// Another goroutine can commit a message, and the server can acknowledge it, before Add registers
// the message.
func TestAdd_MessageEndsBeforeItIsRegistered(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(r *rig)
		want   outbox.State
		ends   int
	}{
		"acknowledged":         {func(r *rig) { r.ack(wire.PUBACK, session.PacketID(0, 1), 0) }, outbox.Acked, 1},
		"refused":              {func(r *rig) { r.ack(wire.PUBACK, session.PacketID(0, 1), 0x97) }, outbox.Refused, 1},
		"damaged":              {func(r *rig) { r.o.Damaged(1, errors.New("damaged")) }, outbox.Dropped, 1},
		"damaged, not sent":    {func(r *rig) { r.o.Damaged(1, errors.New("damaged")) }, outbox.Dropped, 1},
		"acknowledged, closed": {func(r *rig) { r.ack(wire.PUBACK, session.PacketID(0, 1), 0); r.o.Close(errors.New("x")) }, outbox.Acked, 1},
		"closed":               {func(r *rig) { r.o.Close(errors.New("closed")) }, outbox.Abandoned, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, store := hookedRig(t, outbox.Config{Rules: finalRefusals}, persistence.Options{})
				r.connect(false, session.Limits{})
				store.enqueued = func(ticket persistence.Ticket) {
					if name != "damaged, not sent" {
						if err := store.Wait(context.Background(), ticket); err != nil {
							t.Error(err)
						}
						r.o.Wake()
						r.want("1")
					}
					tt.before(r)
				}
				d := message(1, 1)
				w := r.add(d)
				wantState(t, w, tt.want)
				if len(r.ended) != tt.ends || tt.ends > 0 && r.ended[0].ID != d.ID {
					t.Errorf("reported %+v", r.ended)
				}
				if n := r.o.Open(); n != 0 {
					t.Errorf("%d messages are open", n)
				}
			})
		})
	}
}

// A message that the connection did not accept was not sent, so it is sent without DUP later
// [MQTT-3.3.1-3]. A message that it accepted may have arrived.
func TestClose_LowersTheWatermark(t *testing.T) {
	for name, tt := range map[string]struct {
		over, breaks bool
		want         uint64
	}{
		"the connection takes nothing":      {over: true, want: 0},
		"the connection ends while it does": {breaks: true, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{}))
				w := r.add(message(1, 1))
				r.attach(false, session.Limits{})
				r.c.over, r.c.breaks = tt.over, tt.breaks
				r.o.Connected(r.g)
				synctest.Wait()
				if r.store.Sent(persistence.Normal) == 0 {
					t.Error("the store does not know that the message may be sent")
				}
				r.cut(0)
				r.stop()
				r.o.Close(errors.New("closed"))
				if got := r.store.Sent(persistence.Normal); got != tt.want {
					t.Errorf("the watermark is %d, want %d", got, tt.want)
				}
				wantState(t, w, outbox.Abandoned)
			})
		})
	}
}

// A packet identifier is not reused while the last message that used it is pending. It is not
// reused either before the end of that message is durable.
func TestRun_PacketIdentifierWaitsForItsLastUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{}, persistence.Options{})
		r.connect(false, session.Limits{})
		lap := session.Lap(uint8(persistence.High))
		high := func(n uint64) *outbox.Waiter {
			d := message(n, 1)
			d.Priority = persistence.High
			return r.add(d)
		}
		stuck := high(1)
		r.want("1")
		for n := uint64(2); n <= lap; n++ {
			high(n)
			r.want(fmt.Sprint(n))
			r.ack(wire.PUBACK, session.PacketID(1, n), 0)
		}
		syncs := store.syncs
		high(lap + 1)
		high(lap + 2)
		r.want()
		r.add(message(lap+3, 1)) // another priority continues
		r.want(fmt.Sprint(lap + 3))
		if store.syncs > syncs {
			t.Error("the store is synced for a message that waits")
		}
		r.ack(wire.PUBACK, session.PacketID(1, 1), 0)
		wantState(t, stuck, outbox.Acked)
		r.want(fmt.Sprint(lap+1), fmt.Sprint(lap+2))
		if store.syncs == syncs {
			t.Error("an identifier is reused before the end of its last user is durable")
		}
	})
}

// A newer message replaces a message that the send loop has read and is about to send.
func TestRun_DoesNotSendADroppedMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{}, persistence.Options{})
		keyed := func(n uint64) *outbox.Waiter {
			d := message(n, 2)
			d.Key = "k"
			return r.add(d)
		}
		old := keyed(1)
		var newer *outbox.Waiter
		store.marking = func() {
			store.marking = nil
			newer = keyed(2)
		}
		r.connect(false, session.Limits{})
		r.want("2")
		wantState(t, old, outbox.Dropped)
		wantState(t, newer, outbox.Pending)
	})
}

// The send loop raises the watermark while the session is lost. The watermark then covers no
// message of the next session.
func TestRun_WatermarkOfALostSessionIsVoid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(message(1, 1))
		r.want("1")
		r.cut(0)
		r.attach(false, session.Limits{})
		if err := r.store.SetSent(persistence.Normal, 1); err != nil {
			t.Fatal(err)
		}
		r.o.Connected(r.g)
		r.want("1") // without DUP
	})
}

// An unstored message that was unacknowledged when the connection ended may be the cause. The next
// connection waits for its acknowledgement.
func TestDisconnected_UnstoredMessageMayBePoison(t *testing.T) {
	for _, unstored := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, outbox.Config{PoisonAttempts: 3}, persistence.NewMemory(persistence.Options{}))
			w := r.add(message(1, 1))
			birth := message(99, 1).Encode(nil, 0)
			for i := range 8 {
				r.attach(i > 0, session.Limits{})
				var err error
				if i == 0 {
					err = r.g.PublishUnstored(birth, func(byte, error) {})
				} else {
					err = r.g.ResendUnstored()
				}
				if err != nil {
					t.Fatal(err)
				}
				id := publishOf(r.c.take()[0]).PacketID
				r.o.Connected(r.g)
				if i == 1 {
					r.want() // the message waits
				}
				if !unstored && i > 0 {
					r.ack(wire.PUBACK, id, 0)
					if err := r.g.PublishUnstored(birth, func(byte, error) {}); err != nil { // sent after the message, so it is no excuse
						t.Fatal(err)
					}
				}
				synctest.Wait()
				r.cut(wire.ReasonPayloadFormatInvalid)
			}
			want := outbox.Refused
			if unstored {
				want = outbox.Pending
			}
			if got := wantState(t, w, want); !unstored && got.Reason != wire.ReasonPayloadFormatInvalid {
				t.Errorf("the result is %+v", got)
			}
		})
	}
}

// An acknowledgement clears the earlier strikes of a message, but not later ones.
func TestDisconnected_AcknowledgementClearsStrikes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{PoisonAttempts: 3}, persistence.NewMemory(persistence.Options{}))
		w := r.add(message(1, 1))
		for i := range 6 {
			r.connect(i > 0, session.Limits{})
			if i == 2 {
				r.add(message(2, 1))
				synctest.Wait()
				r.ack(wire.PUBACK, session.PacketID(0, 2), 0)
			}
			r.cut(wire.ReasonPacketTooLarge)
			want := outbox.Pending
			if i == 5 { // the third after the acknowledgement
				want = outbox.Refused
			}
			wantState(t, w, want)
		}
		if e := r.ended[len(r.ended)-1]; e.Cause != outbox.Poison || e.Attempts != 3 {
			t.Errorf("ended as %+v", e)
		}
	})
}

// Trials that end with their connection are returned to the breaker. When an open breaker allows a
// trial again, the outbox asks for one.
func TestRun_Breaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		breaker := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 1, SuccessesToClose: 2, RecoveryTimeout: time.Minute})
		r := newRig(t, outbox.Config{Breaker: breaker, Rules: finalRefusals}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(message(1, 1))
		r.want("1")
		r.ack(wire.PUBACK, session.PacketID(0, 1), wire.ReasonQuotaExceeded)
		for n := range uint64(4) {
			r.add(message(n+2, 1))
		}
		r.want()
		time.Sleep(time.Minute + 1)
		r.want("2", "3")
		r.cut(0)
		r.connect(true, session.Limits{})
		r.want("+2", "+3")
		r.ack(wire.PUBACK, session.PacketID(0, 2), 0)
		r.ack(wire.PUBACK, session.PacketID(0, 3), 0)
		r.want("4", "5")
	})
}

// Each attempt is reported to the breaker exactly once, even if the message is not sent again on
// the next connection.
func TestRun_ReportsEachAttemptOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reports := 0
		breaker := reliability.NewBreaker(reliability.BreakerOptions{Judge: func(error) reliability.Judgment { reports++; return reliability.Ignored }})
		r := newRig(t, outbox.Config{Breaker: breaker}, persistence.NewMemory(persistence.Options{}))
		for n := range uint64(3) {
			r.add(message(n+1, 1))
		}
		for i, window := range []uint16{4, 1, 1} {
			r.connect(i > 0, session.Limits{ReceiveMaximum: window})
			r.cut(0)
		}
		r.connect(true, session.Limits{ReceiveMaximum: 4})
		if reports != 3+2+2 { // with a window of 1, one more attempt finds no room
			t.Errorf("%d reports of 7 attempts", reports)
		}
	})
}

// With Block, each end of a message lets one call continue.
func TestAdd_BlocksForRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{WhenFull: outbox.Block}, persistence.NewMemory(persistence.Options{Limits: persistence.Limits{MaxMessages: 2}}))
		for n := range uint64(2) {
			r.add(message(n+1, 1))
		}
		why, stopped := errors.New("why"), errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		results := make(chan error, 5)
		for n := range uint64(5) {
			go func() {
				own := t.Context()
				if n == 4 {
					own = ctx
				}
				results <- r.o.Add(own, message(n+3, 1), new(outbox.Waiter))
			}()
		}
		synctest.Wait()
		cancel(why)
		if err := <-results; err != why {
			t.Errorf("Add returned %v after its context ended", err)
		}
		r.connect(false, session.Limits{})
		for range 2 {
			r.ack(wire.PUBACK, publishOf(r.c.take()[0]).PacketID, 0)
			if err := <-results; err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if len(results) > 0 {
				t.Error("the end of one message let two in")
			}
		}
		r.o.Stop(stopped)
		for range 2 {
			if err := <-results; err != stopped {
				t.Errorf("Add returned %v after Stop", err)
			}
		}
		if err := r.o.Add(t.Context(), message(9, 1), new(outbox.Waiter)); err != stopped {
			t.Errorf("Add returned %v after Stop", err)
		}
	})
}

func TestWaitIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{}))
		idle := make(chan error, 1)
		wait := func(ctx context.Context) { idle <- r.o.WaitIdle(ctx) }
		wait(t.Context())
		if err := <-idle; err != nil {
			t.Error(err)
		}
		busy := func(what string) {
			t.Helper()
			if synctest.Wait(); len(idle) > 0 {
				t.Errorf("WaitIdle returned %v while %s", <-idle, what)
			}
		}
		refused := errors.New("draining")
		d := message(1, 1)
		encode := d.Encode
		d.Encode = func(dst []byte, number uint64) []byte {
			r.o.Refuse(refused)
			go wait(t.Context())
			busy("Add is running")
			return encode(dst, number)
		}
		r.add(d)
		busy("a message is pending")
		if err := r.o.Add(t.Context(), message(2, 1), new(outbox.Waiter)); err != refused || r.o.Refused() != refused {
			t.Errorf("Add returned %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		if err := r.o.WaitIdle(ctx); err != why {
			t.Errorf("WaitIdle returned %v after its context ended", err)
		}
		r.connect(false, session.Limits{})
		r.ack(wire.PUBACK, session.PacketID(0, 1), 0)
		if err := <-idle; err != nil {
			t.Error(err)
		}
	})
}

// The numbers of a stream have the order of the log and no gaps. They continue after a restart.
func TestAdd_NumbersStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{Limits: persistence.Limits{MaxPacketBytes: 100}}))
		var mu sync.Mutex
		numbers := map[uint64]uint64{} // by n
		numbered := func(n uint64, stream string, size int) *outbox.Draft {
			d := message(n, 1)
			d.StreamName = stream
			d.Encode = func(dst []byte, number uint64) []byte {
				mu.Lock()
				defer mu.Unlock()
				numbers[n] = number
				return append(wire.AppendPublish(dst, &wire.Publish{Topic: stream, QoS: 1}), make([]byte, size)...)
			}
			return d
		}
		for life := range uint64(2) {
			var adding sync.WaitGroup
			for g := range uint64(4) {
				adding.Go(func() {
					for i := range uint64(50) {
						r.add(numbered(1000*life+100*g+i+1, fmt.Sprint("s", i%3), 10))
						if err := r.o.Add(t.Context(), numbered(9999, "s0", 100), new(outbox.Waiter)); !errors.Is(err, persistence.ErrPacketTooLarge) {
							t.Errorf("Add returned %v", err)
						}
					}
				})
			}
			adding.Wait()
			r.stop()
			r.o.Close(errors.New("closed"))
			r.store = r.store.Reopen()
			r.start()
		}
		next, c := map[string]uint64{}, persistence.Cursor{}
		for e := (persistence.Entry{}); ; c.Pass(&e) {
			if ok, err := r.store.Next(&c, &e); err != nil || !ok {
				break
			}
			stream, n := string(e.Packet[4:6]), uint64(e.ID[6])<<8|uint64(e.ID[7])
			if next[stream]++; numbers[n] != next[stream] {
				t.Fatalf("message %d of %s has the number %d, want %d", n, stream, numbers[n], next[stream])
			}
		}
		if fmt.Sprint(next) != "map[s0:136 s1:136 s2:128]" {
			t.Errorf("the last numbers are %v", next)
		}
	})
}

// If the store does not answer, the session stays valid and nothing is reported. The next call
// continues.
func TestResetSession_ContinuesAfterAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{OnSessionLost: persistence.FailInFlight}, persistence.Options{})
		r.connect(false, session.Limits{})
		w := r.add(message(1, 1))
		kept := message(2, 1)
		kept.OnSessionLost = persistence.Republish
		r.add(kept)
		r.want("1", "2")
		r.cut(0)
		broken := errors.New("the disk does not answer")
		store.reset = func() error { return broken }
		r.s.Begin(false)
		if err := r.o.ResetSession("owner", r.s.Unacked()); err != broken || len(r.ended) > 0 {
			t.Errorf("ResetSession returned %v and reported %v", err, r.ended)
		}
		wantState(t, w, outbox.Pending)
		store.reset = nil
		r.connect(true, session.Limits{}) // the session that the failed attempt has begun
		wantState(t, w, outbox.Dropped)
		if lost := r.o.NewSession(); lost != (outbox.Lost{Republished: 1, Failed: 1}) || len(r.ended) != 1 || r.ended[0].Cause != outbox.SessionLost {
			t.Errorf("lost %+v, reported %+v", lost, r.ended)
		}
		r.want("2")
	})
}

// After an error, the outbox uses the store again later.
func TestRun_RetriesTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{}, persistence.Options{})
		r.connect(false, session.Limits{})
		times := 2
		store.reading = func(*persistence.Cursor) error {
			if times--; times >= 0 {
				return errors.New("the disk does not answer")
			}
			return nil
		}
		r.add(message(1, 1))
		time.Sleep(3 * second)
		r.want("1")
		if len(r.failed) != 2 {
			t.Errorf("reported %v", r.failed)
		}
	})
}

// Results are correct even if the server answers before Add returns.
func TestAdd_Concurrently(t *testing.T) {
	store := persistence.NewMemory(persistence.Options{})
	r := newRig(t, outbox.Config{Rules: finalRefusals}, store)
	r.attach(false, session.Limits{})
	acks := make(chan wire.Ack, 10_000)
	r.c.onSend = func(v wire.PublishView) {
		a := wire.Ack{Type: wire.PUBACK, PacketID: v.PacketID}
		if indexOf(v)%3 == 0 {
			a.Reason = wire.ReasonNotAuthorized
		}
		acks <- a
	}
	go func() {
		for a := range acks {
			if err := r.g.HandleAck(a); err != nil {
				t.Error(err)
			}
		}
	}()
	r.o.Connected(r.g)
	var adding sync.WaitGroup
	var next atomic.Uint64
	for g := range 8 {
		adding.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			for range 500 {
				n, w := next.Add(1), new(outbox.Waiter)
				if err := r.o.Add(t.Context(), message(n, 1), w); err != nil {
					t.Error(err)
				}
				if random.IntN(2) == 0 {
					<-w.Done()
				}
				if state := w.Result().State; state != outbox.Pending && (state == outbox.Refused) != (n%3 == 0) {
					t.Errorf("message %d ended as %d", n, state)
				}
			}
		})
	}
	adding.Wait()
	if err := r.o.WaitIdle(t.Context()); err != nil {
		t.Error(err)
	}
	close(acks)
	if n := r.o.Open(); n != 0 || len(r.ended) != 4000 {
		t.Errorf("%d messages are open, %d ended", n, len(r.ended))
	}
}

func TestWaiter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var w, late outbox.Waiter
		done := make(chan struct{})
		go func() { <-w.Done(); close(done) }()
		synctest.Wait()
		wantState(t, &w, outbox.Pending)
		why := errors.New("why")
		w.Resolve(outbox.Result{State: outbox.Dropped, Err: why})
		w.Resolve(outbox.Result{State: outbox.Acked}) // only the first result counts
		<-done
		<-w.Done()
		if r := wantState(t, &w, outbox.Dropped); r.Err != why {
			t.Errorf("the error is %v", r.Err)
		}
		late.Resolve(outbox.Result{State: outbox.Acked})
		<-late.Done()
	})
}

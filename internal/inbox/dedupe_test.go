package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
)

// same returns messages with one dedupe key.
func same(key string, qos byte, numbers ...int) (list []*message) {
	for _, n := range numbers {
		list = append(list, &message{Number: n, Topic: "t", QoS: qos, ID: key, Bytes: 100})
	}
	return list
}

// spread puts messages on topics that belong to different workers.
func (r *rig) spread(messages ...*message) {
	for i, topic := range r.apart(len(messages)) {
		messages[i].Topic = topic
	}
}

func cached(cache dedupe.Cache) func(*config) {
	return func(cfg *config) { cfg.Dedupe, cfg.Workers = cache, 16 }
}

func TestInbox_SuppressesDuplicates(t *testing.T) {
	inBubble(t, cached(dedupe.NewMemory(dedupe.Options{})), func(r *rig) {
		r.server.connect()
		r.send(same("k", 1, 1)...)
		r.wantAcks("1")
		r.send(same("k", 2, 2)...)
		r.send(same("", 1, 3, 4)...) // without a key
		r.wantAcks("2", "3", "4")
		if st := r.box.Stats(); st.Handled != 3 || st.Duplicates != 1 || st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Copies of a message that is being handled keep the bytes of their receipts, so the budget bounds
// their number.
func TestInbox_CopiesAreBounded(t *testing.T) {
	narrow := func(cfg *config) {
		cached(dedupe.NewMemory(dedupe.Options{}))(cfg)
		cfg.MaxBytes = 4000
	}
	inBubble(t, narrow, func(r *rig) {
		r.server.connect()
		list := same("k", 1, numbers(1, 40)...)
		topics := r.apart(8)
		for i, m := range list {
			m.Topic, m.Bytes = topics[1+i%7], 1000
		}
		list[0].Topic = topics[0]
		var open func()
		list[0], open = gated(list[0])
		r.send(list[0])
		synctest.Wait()
		r.send(list[1:]...)
		time.Sleep(time.Second)
		if st := r.box.Stats(); st.Stalls == 0 || st.Received > 14 || st.Received < 8 || st.Bytes > 4000 {
			t.Errorf("%+v", st)
		}
		open()
		r.wantAcks(texts("%d", 1, 40)...)
		if st := r.box.Stats(); st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Copies of a message that is being handled share its outcome. Each takes at most the bytes of its
// receipt.
func TestInbox_CopiesShareTheOutcome(t *testing.T) {
	for outcome, ack := range map[error]string{nil: "", &refused{code: 0x97, reason: "full"}: " 0x97 full"} {
		t.Run(fmt.Sprint(outcome), func(t *testing.T) {
			inBubble(t, cached(dedupe.NewMemory(dedupe.Options{})), func(r *rig) {
				r.server.connect()
				gate := make(chan struct{})
				list := append(same("k", 2, 1, 2, 3, 4), same("k", 0, 5)...)
				with(list[0], func(context.Context, *delivery) error { <-gate; return outcome })
				r.spread(list...)
				r.send(list[0])
				synctest.Wait()
				r.send(list[1:]...)
				r.wantAcks()
				if n := r.box.Stats().Bytes; n != 400 { // all are smaller than a receipt
					t.Errorf("%d bytes are taken, want 400", n)
				}
				close(gate)
				r.wantAcks("1"+ack, "2"+ack, "3"+ack, "4"+ack)
				// A copy of a handled message is a duplicate. A copy of a refused message is not.
				r.send(same("k", 1, 6)...)
				r.wantAcks("6")
				want := uint64(1)
				if st := r.box.Stats(); st.Handled != want || st.Bytes != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// While another owner has the key, the message and later messages with its ordering key wait. The
// worker handles other messages.
func TestInbox_WaitingForAnotherOwnerFreesTheWorker(t *testing.T) {
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprint("commits=", commits), func(t *testing.T) {
			cache := dedupe.NewMemory(dedupe.Options{})
			inBubble(t, func(cfg *config) { cfg.Dedupe, cfg.Workers = cache, 1 }, func(r *rig) {
				r.server.connect()
				other, _, err := cache.Begin(t.Context(), "k", "other")
				if err != nil {
					t.Fatal(err)
				}
				r.send(same("k", 1, 1)...)
				r.send(on("t", 1, 2, 3)...) // after message 1
				r.send(on("u", 1, 4)...)
				synctest.Wait()
				r.wantFacts("handled 4")
				began := time.Now()
				time.Sleep(10 * time.Second)
				if commits {
					err = cache.Commit(t.Context(), other)
				} else {
					err = cache.Abort(t.Context(), other)
				}
				if err != nil {
					t.Fatal(err)
				}
				r.wantAcks("1", "2", "3", "4")
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("took %v", took)
				}
				if commits {
					r.wantFacts("handled 2", "handled 3")
				} else {
					r.wantFacts("handled 1", "handled 2", "handled 3")
				}
			})
		})
	}
}

// failing is a cache whose calls fail, by error, panic or Goexit, until each kind has failed n
// times.
type failing struct {
	dedupe.Cache
	how            func() error
	begins, wait   atomic.Int32
	commits, renew atomic.Int32
	renewals       atomic.Int32 // successful renewals
}

var errCache = errors.New("database is gone")

func (f *failing) Begin(ctx context.Context, key, owner string) (dedupe.Claim, dedupe.Verdict, error) {
	if f.begins.Add(-1) >= 0 {
		return dedupe.Claim{}, 0, f.how()
	}
	return f.Cache.Begin(ctx, key, owner)
}

func (f *failing) Commit(ctx context.Context, c dedupe.Claim) error {
	if f.commits.Add(-1) >= 0 {
		return errors.Join(f.how(), f.Cache.Abort(ctx, c))
	}
	return f.Cache.Commit(ctx, c)
}

func (f *failing) Wait(ctx context.Context, c dedupe.Claim) error {
	if f.wait.Add(-1) >= 0 {
		return f.how()
	}
	return f.Cache.Wait(ctx, c)
}

func (f *failing) Renew(ctx context.Context, c dedupe.Claim) (dedupe.Claim, error) {
	if f.renew.Add(-1) >= 0 {
		return dedupe.Claim{}, f.how()
	}
	f.renewals.Add(1)
	return f.Cache.Renew(ctx, c)
}

// ways are the ways in which a function of the application can fail.
var ways = map[string]func() error{
	"error":  func() error { return errCache },
	"panic":  func() error { panic("boom") },
	"Goexit": func() error { runtime.Goexit(); return nil },
}

// While the cache fails, the message waits and is not lost. Messages with other ordering keys
// continue.
func TestInbox_WaitsForAFailingCache(t *testing.T) {
	for name, how := range ways {
		t.Run(name, func(t *testing.T) {
			cache := &failing{Cache: dedupe.NewMemory(dedupe.Options{}), how: how}
			cache.begins.Store(5)
			inBubble(t, func(cfg *config) { cfg.Dedupe, cfg.Workers = cache, 1 }, func(r *rig) {
				r.server.connect()
				began := time.Now()
				r.send(same("k", 1, 1)...)
				r.send(on("t", 1, 2)...)
				r.send(on("u", 1, 3)...)
				r.wantAcks()
				for len(r.acked()) == 0 {
					time.Sleep(time.Second / 10)
				}
				if took := time.Since(began).Round(time.Second); took != 5*time.Second {
					t.Errorf("took %v, want 5 backoffs", took)
				}
				failures := 0
				var handled []string
				for _, f := range r.facts.take() {
					if f[:7] == "handled" {
						handled = append(handled, f)
					} else {
						failures++
					}
				}
				if failures != 5 || fmt.Sprint(handled) != "[handled 3 handled 1 handled 2]" {
					t.Errorf("%d failures, %v", failures, handled)
				}
			})
		})
	}
}

// The same applies if DedupeKey fails.
func TestInbox_WaitsForAFailingDedupeKey(t *testing.T) {
	for _, name := range []string{"panic", "Goexit"} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			inBubble(t, func(cfg *config) {
				cached(dedupe.NewMemory(dedupe.Options{}))(cfg)
				cfg.DedupeKey = func(m *message) (string, error) {
					if calls++; calls <= 2 {
						ways[name]()
					}
					return m.ID, nil
				}
			}, func(r *rig) {
				r.server.connect()
				r.send(same("k", 1, 1, 2)...)
				time.Sleep(time.Minute)
				r.wantAcks("1", "2")
				if st := r.box.Stats(); st.Handled != 1 || st.Duplicates != 1 || st.Bytes != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A failed commit is reported, but the message is acknowledged, because it has had its effect.
func TestInbox_AcknowledgesWhenTheCommitFails(t *testing.T) {
	for name, how := range ways {
		t.Run(name, func(t *testing.T) {
			cache := &failing{Cache: dedupe.NewMemory(dedupe.Options{}), how: how}
			cache.commits.Store(1)
			inBubble(t, cached(cache), func(r *rig) {
				r.server.connect()
				r.send(same("k", 1, 1)...)
				r.wantAcks("1")
				if got := r.facts.take(); len(got) != 2 || got[0] != "handled 1" {
					t.Errorf("reported %q", got)
				}
				if n := r.box.Stats().Bytes; n != 0 {
					t.Errorf("%d bytes are left", n)
				}
			})
		})
	}
}

func TestInbox_WaitsLongerIfWaitFails(t *testing.T) {
	for name, how := range ways {
		t.Run(name, func(t *testing.T) {
			cache := &failing{Cache: dedupe.NewMemory(dedupe.Options{}), how: how}
			cache.wait.Store(2)
			inBubble(t, cached(cache), func(r *rig) {
				r.server.connect()
				other, _, _ := cache.Begin(t.Context(), "k", "other")
				r.send(same("k", 1, 1)...)
				r.wantAcks()
				if err := cache.Commit(t.Context(), other); err != nil {
					t.Fatal(err)
				}
				r.wantAcks()
				time.Sleep(time.Second + 1)
				r.wantAcks("1")
			})
		})
	}
}

// eager is a cache whose Wait returns at once, which the contract allows.
type eager struct {
	dedupe.Cache
	begins atomic.Uint64
}

func (e *eager) Begin(ctx context.Context, key, owner string) (dedupe.Claim, dedupe.Verdict, error) {
	if e.begins.Add(1) > 1000 {
		return dedupe.Claim{}, 0, errors.New("asked in a loop") // ends the loop
	}
	return e.Cache.Begin(ctx, key, owner)
}

func (e *eager) Wait(context.Context, dedupe.Claim) error { return nil }

func TestInbox_WaitsLongerIfWaitReturnsEarly(t *testing.T) {
	cache := &eager{Cache: dedupe.NewMemory(dedupe.Options{})}
	inBubble(t, cached(cache), func(r *rig) {
		r.server.connect()
		other, _, _ := cache.Begin(t.Context(), "k", "other")
		r.send(same("k", 1, 1)...)
		time.Sleep(time.Minute)
		if n := cache.begins.Load(); n > 500 {
			t.Errorf("Begin was called %d times in a minute", n)
		}
		if err := cache.Commit(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.wantAcks("1")
	})
}

// Leases are renewed while a handler runs and while a message is held for order, even after a
// failed renewal, so that no other owner takes over the key. The handler gets the token.
func TestInbox_RenewsLeases(t *testing.T) {
	for name, how := range ways {
		t.Run(name, func(t *testing.T) {
			memory := dedupe.NewMemory(dedupe.Options{Lease: 3 * time.Second})
			cache := &failing{Cache: memory, how: how}
			cache.renew.Store(2)
			inBubble(t, func(cfg *config) {
				cached(cache)(cfg)
				cfg.Ordering = &ordering.Options{GapTimeout: time.Minute}
			}, func(r *rig) {
				r.server.connect()
				token := uint64(0)
				slow := with(same("slow", 1, 1)[0], func(_ context.Context, d *delivery) error {
					token = d.Claim.Token
					time.Sleep(30 * time.Second)
					return nil
				})
				held := same("held", 1, 2, 3)
				held[0].Stream, held[0].Seq = "s", 1
				held[1].Stream, held[1].Seq, held[1].ID = "s", 3, "held2"
				slow.Topic = r.apart(2)[1]
				held[0].Topic, held[1].Topic = r.apart(1)[0], r.apart(1)[0]
				r.send(slow)
				r.send(held...)
				for range 25 {
					time.Sleep(time.Second)
					for _, key := range []string{"slow", "held2"} {
						if _, v, err := memory.Begin(t.Context(), key, "other"); v != dedupe.InFlight {
							t.Fatalf("%s: %v, %v", key, v, err)
						}
					}
				}
				synctest.Wait()
				if token == 0 {
					t.Error("the handler has no token")
				}
				if n := cache.renewals.Load(); n > 2*2*25 { // of two claims, each at a third of the lease
					t.Errorf("%d renewals in 25 s", n)
				}
				time.Sleep(time.Minute)
				r.wantAcks("1", "2", "3")
			})
		})
	}
}

// If another owner has taken over the key, the renewal reports it once, and so does the commit.
func TestInbox_ReportsALostClaim(t *testing.T) {
	memory := dedupe.NewMemory(dedupe.Options{Lease: 3 * time.Second})
	cache := &failing{Cache: memory, how: ways["error"]}
	cache.renew.Store(1 << 30)
	inBubble(t, cached(cache), func(r *rig) {
		r.server.connect()
		r.send(with(same("k", 1, 1)[0], func(context.Context, *delivery) error {
			time.Sleep(4 * time.Second)
			if _, v, err := memory.Begin(t.Context(), "k", "other"); v != dedupe.Fresh {
				t.Errorf("%v, %v", v, err)
			}
			cache.renew.Store(0)
			time.Sleep(10 * time.Second)
			return nil
		}))
		time.Sleep(time.Minute)
		r.wantAcks("1")
		lost := 0
		for _, f := range r.facts.take() {
			if f[:6] == "store:" && f != "store: "+errCache.Error() {
				lost++
			}
		}
		if lost != 2 {
			t.Errorf("reported %d times, want by Renew and by Commit", lost)
		}
	})
}

// Claims of unhandled messages are returned when the inbox stops.
func TestInbox_StopReturnsClaims(t *testing.T) {
	cache := dedupe.NewMemory(dedupe.Options{})
	inBubble(t, func(cfg *config) {
		cached(cache)(cfg)
		cfg.Ordering = &ordering.Options{GapTimeout: time.Hour}
	}, func(r *rig) {
		r.server.connect()
		busy, _ := gated(same("busy", 1, 1)[0])
		held := same("first", 1, 2)[0]
		held.Stream, held.Seq = "s", 1
		late := same("held", 1, 3)[0]
		late.Stream, late.Seq = "s", 3
		r.spread(busy, held)
		late.Topic = held.Topic
		r.send(busy, held, late)
		synctest.Wait()
		if n := cache.Stats().Claims; n != 2 {
			t.Errorf("%d claims are held", n)
		}
		r.stop(time.Second)
		if n := cache.Stats().Claims; n != 0 {
			t.Errorf("%d claims are left", n)
		}
		r.wantAcks()
	})
}

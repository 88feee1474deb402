package outbox_test

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/persistence"
)

// expiring adds a message with this lifetime. 0: the message does not expire.
func expiring(r *rig, n uint64, qos byte, life time.Duration) *outbox.Waiter {
	d := message(n, qos)
	d.Expiry = life
	return r.add(d)
}

// walkCounter counts the complete walks through the store.
func walkCounter(s *hooked) *int {
	walks := new(int)
	s.end = func() { *walks++ }
	return walks
}

// Each message expires on time without a connection, whatever messages are stored before it.
func TestRun_MessagesExpireInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{}))
		forever, long := expiring(r, 1, 1, 0), expiring(r, 2, 2, time.Hour)
		short := expiring(r, 3, 1, 10*second)
		began := time.Now()
		<-short.Done()
		if took := time.Since(began); took != 10*second || wantState(t, short, outbox.Expired).Err == nil {
			t.Errorf("a message with 10 s ended after %v", took)
		}
		wantState(t, long, outbox.Pending)
		<-long.Done()
		if took := time.Since(began); took != time.Hour {
			t.Errorf("a message with an hour ended after %v", took)
		}
		wantState(t, forever, outbox.Pending)
		if len(r.ended) != 2 || r.ended[0].ID != message(3, 1).ID || r.ended[0].Cause != outbox.TimePassed {
			t.Errorf("reported %+v", r.ended)
		}
	})
}

// Messages of an earlier process expire too, even if there are many.
func TestRun_ExpiresMessagesOfAnEarlierProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{}))
		const many = 3*512 + 1
		for n := range uint64(many) {
			expiring(r, n+1, 1, time.Minute)
		}
		expiring(r, many+1, 1, 0)
		r.stop()
		r.o.Close(errors.New("closed"))
		time.Sleep(time.Hour)
		r.store = r.store.Reopen()
		r.start()
		synctest.Wait()
		if st := r.store.Stats(); st.Expired != many || st.Pending != 1 {
			t.Errorf("%d messages expired, %d are pending", st.Expired, st.Pending)
		}
	})
}

// Messages that expire one after another do not make the send loop walk through the store all the
// time. An empty store causes no walk.
func TestRun_FewExpiryWalks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, store := hookedRig(t, outbox.Config{}, persistence.Options{})
		walks := walkCounter(store)
		for n := range uint64(1000) {
			expiring(r, n+1, 1, second+time.Duration(n)*time.Millisecond)
		}
		time.Sleep(3 * second)
		synctest.Wait()
		if st := r.store.Stats(); st.Expired != 1000 || *walks > 15 {
			t.Errorf("%d messages expired, in %d walks", st.Expired, *walks)
		}
		*walks = 0
		time.Sleep(time.Hour)
		if *walks > 0 {
			t.Errorf("%d walks through an empty store", *walks)
		}
	})
}

// The longest Duration does not count as expired.
func TestRun_LongestExpiry(t *testing.T) {
	for name, maxAge := range map[string]time.Duration{"Expiry": 0, "MaxAge": math.MaxInt64} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, store := hookedRig(t, outbox.Config{MaxAge: maxAge}, persistence.Options{Limits: persistence.Limits{MaxAge: maxAge}})
				walks := walkCounter(store)
				time.Sleep(time.Minute)
				life := time.Duration(math.MaxInt64)
				if maxAge > 0 {
					life = 0
				}
				w := expiring(r, 1, 1, life)
				expiring(r, 2, 1, second) // its end causes a walk
				time.Sleep(time.Hour)
				synctest.Wait()
				wantState(t, w, outbox.Pending)
				if *walks > 3 {
					t.Errorf("%d walks", *walks)
				}
			})
		})
	}
}

package deferral_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
)

// In random histories no message is lost or left waiting. No message is sent twice at the same
// time, and none is sent beside one that is sent alone.
func TestQueue_DeliversEverything(t *testing.T) {
	for seed := range uint64(300) {
		r, rnd := newRig(t), rand.New(rand.NewPCG(seed, 2))
		topics := []string{"a", "b", "c"}
		topicOf := func(seq uint64) string { return topics[seq%3] }
		pending, flight, released := map[uint64]bool{}, map[uint64]bool{}, map[uint64]bool{}
		next := uint64(0)
		send := func(x deferral.Item) {
			if flight[x.Seq] || !pending[x.Seq] {
				t.Fatalf("seed %d: message %d is sent, in flight %v, pending %v", seed, x.Seq, flight[x.Seq], pending[x.Seq])
			}
			flight[x.Seq] = true
			r.Under(x.Seq, uint16(50+x.Seq))
		}
		any := func() uint64 {
			list := r.InFlight()
			if len(list) == 0 {
				return 0
			}
			return list[rnd.IntN(len(list))]
		}
		end := func(seq uint64, acked bool) {
			delete(pending, seq)
			delete(flight, seq)
			r.Ended(seq, true, acked, r.now)
		}
		pick := func() {
			r.Expired(r.now, r.now) // nothing expires
			x, ok, hold := r.PickAlone(r.now, true, len(flight) == 0)
			if ok {
				if len(flight) > 0 {
					t.Fatalf("seed %d: message %d is sent alone beside %v", seed, x.Seq, flight)
				}
				send(x)
			}
			if hold {
				return
			}
			for {
				x, ok := r.Pick(r.now)
				if !ok {
					break
				}
				send(x)
			}
		}
		check := func() {
			for seq := range pending {
				if r.Waits(seq) == flight[seq] {
					t.Fatalf("seed %d: message %d waits %v, in flight %v", seed, seq, !flight[seq], flight[seq])
				}
			}
			if r.Messages() != len(pending) || len(r.InFlight()) != len(flight) || r.Any() != (len(pending) > 0) {
				t.Fatalf("seed %d: %d messages, %d in flight, want %d, %d", seed, r.Messages(), len(r.InFlight()), len(pending), len(flight))
			}
		}
		for range 200 {
			seq := any()
			switch n := rnd.IntN(20); {
			case n < 4:
				next++
				pending[next] = true
				r.follow(topicOf(next), next)
			case n < 9:
				pick()
			case seq == 0:
			case n < 12 || released[seq]:
				end(seq, n != 11)
			case n < 14:
				delete(flight, seq)
				r.refuse(topicOf(seq), seq, uint16(50+seq), quota)
			case n < 17:
				delete(flight, seq)
				code := []byte{0, unspecified}[rnd.IntN(2)]
				r.Isolate(topicOf(seq), message(seq), uint16(50+seq), deferral.Refusal{Seq: seq, Code: code, Alone: true, Topic: rnd.IntN(8) == 0}, r.now)
			case n < 18:
				if _, all := r.Isolated([]byte(topicOf(seq)), 0); all && r.Trial() != seq {
					delete(flight, seq)
					r.Keep(topicOf(seq), message(seq), uint16(50+seq), r.now)
				}
			case n < 19:
				r.Released(seq, r.now)
				released[seq] = true
			default:
				if rnd.IntN(4) == 0 {
					r.SessionLost(r.now)
					clear(flight)
					clear(released)
				}
			}
			r.pass(time.Duration(rnd.IntN(1500)) * time.Millisecond)
			check()
		}
		for range 1000 { // the server accepts everything
			if len(pending) == 0 {
				break
			}
			pick()
			if len(flight) > 0 { // the answers wake the send loop
				for _, seq := range r.InFlight() {
					end(seq, true)
				}
				check()
				continue
			}
			if wait := r.Next(r.now, r.now, r.begin); wait > 20*time.Second {
				t.Fatalf("seed %d: %v are left, and the next look is in %v", seed, pending, wait)
			} else {
				r.pass(wait)
			}
		}
		if len(pending) > 0 {
			t.Fatalf("seed %d: %v are never sent", seed, pending)
		}
		r.empty()
	}
}

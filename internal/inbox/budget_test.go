package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// narrow gives room for three messages of 100 bytes.
func narrow(cfg *config) { cfg.MaxBytes, cfg.Workers = 350, 1 }

// gate blocks all handlers until it is opened.
func gate(list []*message, each func(n int)) (_ []*message, open func()) {
	c := make(chan struct{})
	for _, m := range list {
		with(m, func(ctx context.Context, _ *delivery) error {
			select {
			case <-c:
			case <-ctx.Done():
				return ctx.Err()
			}
			if each != nil {
				each(m.Number)
			}
			return nil
		})
	}
	return list, func() { close(c) }
}

func numbers(from, to int) (list []int) {
	for n := from; n <= to; n++ {
		list = append(list, n)
	}
	return list
}

func texts(format string, from, to int) (list []string) {
	for n := from; n <= to; n++ {
		list = append(list, fmt.Sprintf(format, n))
	}
	return list
}

func TestBudget_DropsQoS0WithoutRoom(t *testing.T) {
	inBubble(t, narrow, func(r *rig) {
		r.server.connect()
		list, open := gate(on("t", 0, numbers(1, 10)...), nil)
		r.send(list...)
		synctest.Wait()
		if st := r.box.Stats(); st.Received != 10 || st.DroppedQoS0 != 7 || st.Bytes != 300 || st.Stalls != 0 {
			t.Errorf("%+v", st)
		}
		open()
		r.wantFacts(append(texts("QoS 0 dropped %d", 4, 10), "handled 1", "handled 2", "handled 3")...)
		if st := r.box.Stats(); st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestBudget_StallsTheReaderUntilThereIsRoom(t *testing.T) {
	inBubble(t, narrow, func(r *rig) {
		r.server.connect()
		list, open := gate(on("t", 1, numbers(1, 40)...), func(int) {
			if n := r.box.Stats().Bytes; n > 350 {
				t.Errorf("%d bytes are taken", n)
			}
		})
		r.send(list...)
		time.Sleep(29 * time.Second)
		if st := r.box.Stats(); st.Received != 3 || st.Bytes != 300 || st.Stalls != 1 {
			t.Errorf("%+v", st)
		}
		r.wantFacts("stalled leaving=false")
		open()
		r.wantAcks(texts("%d", 1, 40)...)
		if st := r.box.Stats(); st.Bytes != 0 || st.Handled != 40 || len(r.server.ends) != 0 {
			t.Errorf("%+v, ends %v", st, r.server.ends)
		}
	})
}

func TestBudget_AlwaysHasRoomForOneMessage(t *testing.T) {
	inBubble(t, func(cfg *config) { cfg.MaxBytes = 1 }, func(r *rig) {
		r.server.connect()
		r.send(on("t", 1, 1, 2, 3)...)
		r.wantAcks("1", "2", "3")
	})
}

// Handlers wait for something that the reader reaches only after the messages without room. When
// reading has paused for StallTimeout, the messages are left to the server, and the reader
// continues. The server redelivers them in order when half of the budget is free.
func TestBudget_LeavesMessagesWhenHandlersWaitForTheReader(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			inBubble(t, narrow, func(r *rig) {
				r.server.connect()
				list, open := gate(on("t", qos, numbers(1, 9)...), nil)
				// Half of the budget is free when message 3 is handled. The connection may end
				// before later messages are acknowledged.
				list[0].Bytes, list[1].Bytes, list[2].Bytes = 20, 20, 260
				small := on("t", qos, 10)[0] // it would have room, but must not overtake
				small.Bytes = 1
				answer := with(&message{Number: 11, Topic: "other", Bytes: 1}, nil) // what handlers wait for
				r.send(list...)
				r.send(small, answer)
				time.Sleep(31 * time.Second)
				r.wantFacts("stalled leaving=false", "stalled leaving=true")
				r.wantAcks()
				if st := r.box.Stats(); st.Received != 4 { // 1, 2, 3 and the answer
					t.Errorf("%+v", st)
				}
				open()
				r.wantAcks("1", "2", "3")
				r.server.disconnect()
				if err := r.server.ends[0]; !errors.Is(err, errFull) {
					t.Errorf("the connection ended with %v", err)
				}
				r.wantFacts("handled 1", "handled 2", "handled 3", "handled 11")
				r.server.connect()
				r.wantAcks(texts("%d", 4, 10)...)
				handled := slices.DeleteFunc(r.facts.take(), func(f string) bool { return f == "stalled leaving=false" })
				if want := texts("handled %d", 4, 10); !slices.Equal(handled, want) {
					t.Errorf("%v, want %v", handled, want)
				}
				if st := r.box.Stats(); st.Bytes != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A connection that ends while its reader is stalled loses no message. The next connection may
// stall again.
func TestBudget_StallsOnTheNextConnection(t *testing.T) {
	inBubble(t, narrow, func(r *rig) {
		r.server.connect()
		list, open := gate(on("t", 1, numbers(1, 6)...), nil)
		r.send(list...)
		synctest.Wait()
		r.server.connect()
		time.Sleep(time.Second)
		if st := r.box.Stats(); st.Received != 3 || st.Stalls != 2 {
			t.Errorf("%+v", st)
		}
		open()
		r.wantAcks(texts("%d", 1, 6)...)
	})
}

func TestBudget_StopStalling(t *testing.T) {
	inBubble(t, narrow, func(r *rig) {
		r.server.connect()
		list, open := gate(on("t", 1, numbers(1, 5)...), nil)
		r.send(list...)
		synctest.Wait()
		began := time.Now()
		r.box.StopStalling()
		r.send(&message{Number: 6, Topic: "other", Bytes: 1})
		synctest.Wait()
		if n := r.box.Stats().Received; n != 4 {
			t.Errorf("%d messages are received, want those with room and the last", n)
		}
		open()
		r.wantAcks("1", "2", "3")
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
		if len(r.server.ends) != 0 || r.server.unacked() != 2 {
			t.Errorf("%d messages are unacknowledged, ends %v", r.server.unacked(), r.server.ends)
		}
	})
}

func TestSize_CountsMemoryOverhead(t *testing.T) {
	plain := inbox.Size("t", view(wire.Publish{Topic: "t"}))
	for name, tt := range map[string]struct {
		m     wire.Publish
		least int64 // minimum difference from plain
	}{
		"payload":          {wire.Publish{Payload: make([]byte, 1000)}, 1000},
		"user properties":  {wire.Publish{User: make([]wire.UserProperty, 100)}, 100 * (32 + 5)},
		"correlation data": {wire.Publish{CorrelationData: make([]byte, 1000)}, 2000},
		"subscription ids": {wire.Publish{SubscriptionIDs: []uint32{1, 2, 3, 4}}, 4 * 8},
	} {
		tt.m.Topic = "t"
		if got := inbox.Size("t", view(tt.m)) - plain; got < tt.least {
			t.Errorf("%s: %d bytes, want %d or more", name, got, tt.least)
		}
	}
}

package outbox_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// lapSegment is the size of a segment. Messages of one lap of identifiers fill more than 100
// segments.
const lapSegment = 16 << 10

// lap sends messages of another topic while messages are deferred.
type lap struct {
	*rig
	n        uint64
	held     map[uint16]uint64 // identifiers that deferred messages keep
	segments int               // the highest number of segments
	disk     int64
	given    map[uint16]int // how often each identifier was used
}

// pass sends count messages of a priority. Each message of a batch must be in flight at once.
func (l *lap) pass(p persistence.Priority, count int) {
	l.t.Helper()
	for count > 0 {
		batch := min(count, 250)
		count -= batch
		for range batch {
			l.n++
			d := on("working", l.n, 1)
			d.Priority = p
			l.add(d)
		}
		synctest.Wait()
		sent := l.c.take()
		if len(sent) != batch {
			l.t.Fatalf("%d of %d messages were sent", len(sent), batch)
		}
		for _, f := range sent {
			v := publishOf(f)
			if l.given[v.PacketID]++; l.held[v.PacketID] != 0 || v.Dup {
				l.t.Fatalf("message %d was sent under identifier %d, DUP %v; message %d keeps it", indexOf(v), v.PacketID, v.Dup, l.held[v.PacketID])
			}
			if err := l.g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: v.PacketID}); err != nil {
				l.t.Fatal(err)
			}
		}
		synctest.Wait()
		st := l.store.Stats()
		l.segments, l.disk = max(l.segments, st.Segments), max(l.disk, st.DiskBytes)
	}
}

// heap returns the size of the heap in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Messages are deferred for longer than a lap of identifiers and 100 segments: two refused messages
// of each priority, and one message that ends connections. The process is killed meanwhile.
func TestOutbox_DeferredForALapOfIdentifiers(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 70,000 messages: run it without -short")
	}
	bubble(t, func(t *testing.T) {
		o := persistence.Options{Files: persistence.Files{SegmentBytes: lapSegment}}
		cfg := outbox.Config{Retry: reliability.Backoff{Min: 24 * time.Hour, Max: 24 * time.Hour}, PoisonAttempts: 2}
		l := &lap{rig: newRig(t, cfg, persistence.NewMemory(o)), held: map[uint16]uint64{}, given: map[uint16]int{}}
		limits := session.Limits{ReceiveMaximum: 1000, MaximumQoS: 2, RetainAvailable: true}
		l.connect(false, limits)
		deferred := l.deferSome(limits)

		l.pass(persistence.Normal, 20_000)
		before := heap()
		l.pass(persistence.High, 500)
		l.pass(persistence.Urgent, 500)
		l.pass(persistence.Normal, 20_000)
		l.restartKilled(limits)
		l.pass(persistence.Normal, 26_000)
		l.pass(persistence.High, 500)
		l.pass(persistence.Urgent, 500)
		after := heap()

		var written uint64
		for _, n := range l.given {
			written += uint64(n)
		}
		t.Logf("%d messages passed %d; at most %d segments, %d KiB; the heap grew by %d KiB", written, len(deferred), l.segments, l.disk>>10, (int64(after)-int64(before))>>10)
		if l.segments > 12 || l.disk > 12*lapSegment {
			t.Errorf("%d segments, %d bytes", l.segments, l.disk)
		}
		if after > before+8<<20 {
			t.Errorf("the heap grew from %d to %d bytes", before, after)
		}
		if st := l.store.Stats(); st.Pending != uint64(len(deferred)) || st.Deferred != st.Pending {
			t.Errorf("%+v", st)
		}
		l.deliver(deferred)
	})
}

// deferSome makes messages deferred and returns them.
func (l *lap) deferSome(limits session.Limits) (list []uint64) {
	l.t.Helper()
	for p := range persistence.Priority(persistence.Priorities) {
		for range 2 {
			l.n++
			d := on("refused", l.n, 1)
			d.Priority = p
			l.add(d)
			list = append(list, l.n)
		}
	}
	synctest.Wait()
	for _, f := range l.c.take() {
		l.ack(wire.PUBACK, publishOf(f).PacketID, wire.ReasonNotAuthorized)
	}
	l.n++
	l.add(on("poisonous", l.n, 2))
	list = append(list, l.n)
	synctest.Wait()
	id := l.last().PacketID
	l.cut(wire.ReasonImplementationSpecific)
	l.connect(true, limits)
	l.cut(wire.ReasonImplementationSpecific)
	l.connect(true, limits)
	l.want()
	l.held[id] = l.n
	return list
}

func (l *lap) restartKilled(limits session.Limits) {
	l.t.Helper()
	l.cut(0)
	l.stop()
	l.store = l.store.Reopen()
	l.ended = nil
	l.start()
	l.connect(true, limits)
	l.want()
}

// deliver makes the server accept all messages. They are sent again after the backoff.
func (l *lap) deliver(list []uint64) {
	l.t.Helper()
	time.Sleep(49 * time.Hour)
	var got []uint64
	for range 10 {
		synctest.Wait()
		for _, f := range l.c.take() {
			if f.Type() != wire.PUBLISH {
				continue
			}
			v := publishOf(f)
			keeps := l.held[v.PacketID] != 0
			if n := indexOf(v); keeps != (n == list[len(list)-1]) || v.Dup != keeps {
				l.t.Errorf("message %d was sent under identifier %d, DUP %v", n, v.PacketID, v.Dup)
			}
			got = append(got, indexOf(v))
			if v.QoS == 1 {
				l.ack(wire.PUBACK, v.PacketID, 0)
				continue
			}
			l.ack(wire.PUBREC, v.PacketID, 0)
			l.ack(wire.PUBCOMP, v.PacketID, 0)
		}
	}
	slices.Sort(got)
	if fmt.Sprint(got) != fmt.Sprint(list) {
		l.t.Errorf("delivered %v, want %v", got, list)
	}
	if err := l.o.WaitIdle(l.t.Context()); err != nil {
		l.t.Error(err)
	}
}

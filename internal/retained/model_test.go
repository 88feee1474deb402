package retained

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// world is a server, the network to it, a machine, and mirrors that use the machine. It plays the
// role of the client: it performs the machine's actions as client/views.go and internal/subs do.
type world struct {
	t      *testing.T
	rnd    *rand.Rand
	m      *Machine
	now    time.Time
	conn   Connection
	online bool
	copies bool   // the server sends a copy for each matching subscription
	lossy  string // the marker: "", "refused" or "lost"
	app    subs.Want
	log    []string

	retained map[string]string
	subs     map[string]subs.Want // subscriptions of the session
	toServer []func()
	toClient []packet       // and messages that the session keeps while offline
	floor    int            // number of the last publication before the connection
	asked    map[string]int // number of SUBSCRIBEs for views, by filter
	number   int
	mirrors  []*mirror
}

// packet is a PUBLISH to the client, or an answer that belongs to this connection only.
type packet struct {
	do     func()
	msg    Message
	pay    string
	kept   bool // the session kept it while offline
	forApp bool // it was sent for a subscription of the application
}

// mirror is a user that stores the retained messages, as client.RetainedView does.
type mirror struct {
	View
	have   map[string]string
	epoch  map[string]int
	now    int
	unsure bool
	passes int
	synced bool
}

func (w *world) Application(filter string) (subs.Want, bool) { return w.app, w.app.Filter == filter }
func (w *world) Overlap(filter string) bool {
	return w.app.Filter != "" && (filter == "#" || w.app.Filter == "#" || strings.Split(filter, "/")[0] == strings.Split(w.app.Filter, "/")[0])
}

// only reports whether a message is for no handler.
func (w *world) only(r Route, msg Message) bool {
	switch r.handlers(msg.IDs) {
	case "all":
		return w.app.Filter == "" || !wire.Match(w.app.Filter, msg.Topic)
	case "none":
		return true
	}
	return false
}

func (w *world) note(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

// perform performs actions of the machine.
func (w *world) perform(actions []Action) {
	for _, a := range slices.Clone(actions) {
		v, _ := (*mirror)(nil), 0
		if a.View != nil {
			v = a.View.User.(*mirror)
		}
		switch a.Do {
		case Subscribe:
			w.note("-> SUBSCRIBE %+v", a.Want)
			w.asked[a.Want.Filter]++
			w.toServer = append(w.toServer, func() { w.subscribe(a.Want) })
		case Unsubscribe:
			filter, asked := a.Want.Filter, w.asked[a.Want.Filter]
			w.toServer = append(w.toServer, func() {
				if delete(w.subs, filter); filter == w.app.Filter {
					w.subs[filter] = w.app
				}
				w.answer(func() {
					if w.asked[filter] == asked {
						w.m.Ended(filter)
					}
				})
			})
		case PublishMarker:
			w.toServer = append(w.toServer, func() {
				switch w.lossy {
				case "":
					w.answer(func() { w.perform(w.m.Marked([]byte(a.Payload))) })
				case "refused":
					w.answer(func() { w.m.NoMarker(w.now, a.Want.Filter, a.Fetch) })
				}
			})
		case Filled:
			if v.filled(w.note) {
				w.perform(w.m.Again(a.View))
			}
		case Lost, Refill:
			v.refill(a.Again)
		}
	}
}

// answer sends the client an answer that is lost with the connection.
func (w *world) answer(do func()) { w.toClient = append(w.toClient, packet{do: do}) }

// subscribe is the server's side of a SUBSCRIBE for a view.
func (w *world) subscribe(want subs.Want) {
	granted := want
	if want.Filter == w.app.Filter { // one subscription for both
		granted.QoS, granted.RetainAsPublished = w.app.QoS, want.RetainAsPublished || w.app.RetainAsPublished
	}
	w.subs[want.Filter] = granted
	w.answer(func() { w.perform(w.m.Subscribed(w.now, want.Filter, want.ID)) })
	if want.RetainHandling == 2 {
		return
	}
	for topic, payload := range w.retained {
		if wire.Match(want.Filter, topic) {
			w.send(packet{msg: Message{Topic: topic, Retain: true, QoS: granted.QoS}, pay: payload}, granted.ID)
		}
	}
}

func (w *world) send(p packet, ids ...uint32) {
	if w.conn.SubIDs {
		p.msg.IDs = SplitIDs(ids)
	}
	if w.online || p.msg.QoS > 0 {
		w.toClient = append(w.toClient, p)
	}
}

// publish is a publication of another client.
func (w *world) publish(topic string, qos byte, retain bool, clears bool) {
	w.number++
	payload := fmt.Sprint(w.number)
	if clears {
		payload = ""
	}
	if retain {
		if w.retained[topic] = payload; payload == "" {
			delete(w.retained, topic)
		}
	}
	w.note("published %s=%s q%d retain %v", topic, payload, qos, retain)
	var all packet
	var ids []uint32
	for filter, s := range w.subs {
		if !wire.Match(filter, topic) {
			continue
		}
		p := packet{msg: Message{Topic: topic, QoS: min(qos, s.QoS), Retain: retain && s.RetainAsPublished}, pay: payload, forApp: filter == w.app.Filter}
		if w.copies {
			w.send(p, nonzero(s.ID)...)
			continue
		}
		all.pay, all.forApp = payload, all.forApp || p.forApp
		all.msg = Message{Topic: topic, QoS: max(all.msg.QoS, p.msg.QoS), Retain: all.msg.Retain || p.msg.Retain}
		ids = append(ids, s.ID)
	}
	if all.msg.Topic != "" {
		w.send(all, nonzero(ids...)...)
	}
}

func nonzero(ids ...uint32) []uint32 {
	return slices.DeleteFunc(ids, func(id uint32) bool { return id == 0 })
}

// receive handles the next packet from the server.
func (w *world) receive() {
	p := w.toClient[0]
	w.toClient = w.toClient[1:]
	if p.do != nil {
		p.do()
		return
	}
	r := w.m.Message(w.now, p.msg)
	only := w.only(r, p.msg)
	w.note("<- %s=%s %+v only %v for app %v", p.msg.Topic, p.pay, p.msg, only, p.forApp)
	for _, to := range r.To {
		if n, _ := strconv.Atoi(p.pay); n <= w.floor && n > 0 && to.Origin != Past && w.retained[p.msg.Topic] != p.pay && p.kept {
			w.t.Errorf("a mirror takes %s=%s, which the session has kept, as %s", p.msg.Topic, p.pay, origins[to.Origin])
		}
		to.View.User.(*mirror).take(p, to.Origin, w.note)
	}
	switch {
	case p.forApp && only:
		w.t.Errorf("a handler does not get %s=%s", p.msg.Topic, p.pay)
	case !p.forApp && !only && w.conn.SubIDs && w.knows(p.msg.IDs.Views):
		w.t.Errorf("a handler gets %s=%s, which is not for it", p.msg.Topic, p.pay)
	}
}

// knows reports whether the machine remembers an identifier. It forgets those of all but the last
// two fetches of a filter.
func (w *world) knows(ids []uint32) bool {
	for e := range w.m.filters.All() {
		for _, id := range ids {
			if id&^1 == e.Value.id || id&^1 == e.Value.before {
				return true
			}
		}
	}
	return false
}

func (w *world) connect(kept bool) {
	w.online, w.floor = true, w.number
	w.conn.Present = kept
	for i := range w.toClient {
		w.toClient[i].kept = true
	}
	if !kept {
		w.subs, w.toClient = map[string]subs.Want{}, nil
	}
	if w.app.Filter != "" && !kept {
		w.subs[w.app.Filter] = w.app
	}
	w.note("connected, kept %v", kept)
	w.perform(w.m.Connected(w.conn))
	w.m.MarkerSubscribed(true)
}

func (w *world) disconnect() {
	w.online = false
	w.note("disconnected")
	w.toServer = nil
	w.toClient = slices.DeleteFunc(w.toClient, func(p packet) bool { return p.do != nil || p.msg.QoS == 0 })
	w.perform(w.m.Disconnected())
}

// settle runs until nothing is left to do.
func (w *world) settle() {
	for range 1000 {
		switch at := w.m.Deadline(); {
		case len(w.toServer) > 0:
			do := w.toServer[0]
			w.toServer = w.toServer[1:]
			do()
		case len(w.toClient) > 0:
			w.receive()
		case !at.IsZero():
			w.now = at
			w.perform(w.m.Tick(w.now))
		default:
			return
		}
	}
	w.t.Errorf("it never rests")
}

func (v *mirror) take(p packet, from Origin, note func(string, ...any)) {
	note("   %s takes it as %s", v.Filter, origins[from])
	topic := p.msg.Topic
	switch {
	case from == Past, from == Live && !p.msg.Retain:
	case p.pay == "":
		v.unsure = v.unsure || !p.msg.Retain
		delete(v.have, topic)
	default:
		v.unsure = v.unsure || !p.msg.Retain
		v.have[topic], v.epoch[topic] = p.pay, v.now
	}
}

func (v *mirror) filled(note func(string, ...any)) (again bool) {
	for topic := range v.have {
		if v.epoch[topic] != v.now {
			delete(v.have, topic)
		}
	}
	note("   %s is filled: %v, unsure %v", v.Filter, v.have, v.unsure)
	if v.unsure && v.passes < 3 {
		v.passes++
		v.now++
		v.unsure = false
		return true
	}
	v.synced = true
	return false
}

func (v *mirror) refill(again bool) {
	if v.now++; !again {
		v.passes = 0
	}
	v.unsure, v.synced = false, false
}

// TestMachine_MirrorsRetainedMessages checks random histories. In the end each mirror has all
// retained messages, and each handler has received its messages. With Subscription Identifiers, no
// handler has received other messages.
func TestMachine_MirrorsRetainedMessages(t *testing.T) {
	topics := []string{"a/1", "a/2", "b/1"}
	filters := []string{"a/+", "a/#", "#", "b/1"}
	for seed := range uint64(600) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := &world{t: t, rnd: rnd, now: time.Unix(1000, 0), retained: map[string]string{}, subs: map[string]subs.Want{}, asked: map[string]int{}}
		w.m = New(w, rnd.Uint32(), "nonce")
		w.conn = Connection{SubIDs: rnd.IntN(2) == 0, Marker: "marker"}
		w.copies = rnd.IntN(2) == 0
		w.lossy = []string{"", "", "refused", "lost"}[rnd.IntN(4)]
		if rnd.IntN(2) == 0 {
			w.app = subs.Want{Filter: filters[rnd.IntN(len(filters))], QoS: byte(rnd.IntN(2))}
			if w.conn.SubIDs {
				w.app.ID = subs.FilterID(w.app.Filter, 0)
			}
		}
		w.connect(false)
		for range 80 {
			switch n := rnd.IntN(20); {
			case n < 5 && len(w.toServer) > 0 && w.online:
				do := w.toServer[0]
				w.toServer = w.toServer[1:]
				do()
			case n < 11 && len(w.toClient) > 0 && w.online:
				w.receive()
			case n < 14:
				w.publish(topics[rnd.IntN(3)], byte(rnd.IntN(2)), rnd.IntN(3) > 0, rnd.IntN(4) == 0)
			case n == 14 && w.online:
				w.disconnect()
			case n <= 16 && !w.online:
				w.connect(rnd.IntN(2) == 0)
			case n == 17 && len(w.mirrors) < 4:
				v := &mirror{View: View{Filter: filters[rnd.IntN(4)], QoS: 1, RetainAsPublished: true, Silence: time.Second}, have: map[string]string{}, epoch: map[string]int{}}
				v.User = v
				w.mirrors = append(w.mirrors, v)
				w.note("mirror %s", v.Filter)
				actions, err := w.m.Add(&v.View)
				if err != nil {
					t.Fatal(err)
				}
				w.perform(actions)
			case n == 18 && len(w.mirrors) > 0:
				v := w.mirrors[0]
				w.mirrors = w.mirrors[1:]
				w.note("end %s", v.Filter)
				w.perform(w.m.Remove(&v.View))
			case n == 19 && len(w.mirrors) > 0 && w.online:
				w.perform(w.m.Displaced(w.mirrors[0].Filter))
			}
		}
		if !w.online {
			w.connect(rnd.IntN(2) == 0)
		}
		w.settle()
		for _, topic := range topics { // and live afterwards
			w.publish(topic, 1, true, rnd.IntN(2) == 0)
			w.settle()
		}
		for _, v := range w.mirrors {
			want := map[string]string{}
			for topic, payload := range w.retained {
				if wire.Match(v.Filter, topic) {
					want[topic] = payload
				}
			}
			if fmt.Sprint(v.have) != fmt.Sprint(want) || !v.synced {
				t.Errorf("the mirror of %s has %v, synced %v; want %v", v.Filter, v.have, v.synced, want)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d, identifiers %v, several copies %v, marker %q, application %+v:\n%s", seed, w.conn.SubIDs, w.copies, w.lossy, w.app, strings.Join(w.log, "\n"))
		}
	}
}

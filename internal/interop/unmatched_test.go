package interop

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// resumed is a client that resumes a session with messages. An earlier process has subscribed to
// more topics than the next one has handlers for.
type resumed struct {
	*run
	cfg    client.Config
	link   *mqtttest.Proxy
	acks   record[byte] // reason codes of the client's PUBACKs and PUBRECs
	events *record[client.Event]
	pub    *client.Client
	c      *client.Client
	topics []string // without a handler
	known  string   // topic with the handler in
	in     *inbox
	want   map[string][]string // payloads by topic
}

const perTopic = 20 // number of messages

// resumed subscribes in an earlier process, and then publishes QoS 1 and 2 messages to its session.
func (r *run) resumed(dir string, grace time.Duration) *resumed {
	r.Helper()
	s := &resumed{run: r, cfg: r.config("sub"), link: r.proxy(), pub: r.start(r.config("pub")), in: &inbox{},
		topics: []string{r.topic("un/1"), r.topic("un/2")}, known: r.topic("un/known"), want: map[string][]string{}}
	s.cfg.Dir, s.cfg.Receiving.UnhandledGrace, s.cfg.Servers = dir, grace, []string{s.link.URL()}
	s.link.OnPacket(func(dir mqtttest.Direction, header byte, packet []byte) mqtttest.Action {
		if kind := wire.Type(header >> 4); dir == mqtttest.ToServer && (kind == wire.PUBACK || kind == wire.PUBREC) {
			s.acks.add(reasonCode(packet))
		}
		return mqtttest.ActionPass
	})
	earlier := r.start(s.cfg)
	r.subscribe(earlier, r.topic("un/#"), client.ExactlyOnce)
	if err := earlier.Close(); err != nil {
		r.Fatal(err)
	}
	s.send("queued", append(s.topics, s.known)...)
	return s
}

// send publishes the same number of messages on each topic, at QoS 1 and 2 alternately.
func (s *resumed) send(what string, topics ...string) {
	s.Helper()
	for i := range perTopic {
		for _, topic := range topics {
			text := fmt.Sprint(what, " ", i)
			s.want[topic] = append(s.want[topic], text)
			s.deliver(s.pub, client.Message{Topic: topic, Payload: []byte(text), QoS: client.QoS(1 + i%2)})
		}
	}
}

// process starts a new process of the client, with handlers for these filters.
func (s *resumed) process(filters ...string) {
	s.Helper()
	s.events, s.c = watch(&s.cfg), s.make(s.cfg)
	for _, filter := range filters {
		s.handle(filter, s.in)
	}
}

func (s *resumed) start() {
	s.Helper()
	if err := s.c.Start(context.Background()); err != nil {
		s.Fatal(err)
	}
	if err := s.c.AwaitConnection(s.ctx); err != nil {
		s.Fatal(err)
	}
}

// settle waits until the server has read the acknowledgements, because mosquitto loses those that
// arrive directly before the end of a connection.
func (s *resumed) settle() {
	s.Helper()
	s.fenceSent(s.c, s.topic("settled"))
}

func (s *resumed) close() {
	s.Helper()
	s.settle()
	if err := s.c.Close(); err != nil {
		s.Error(err)
	}
}

func (s *resumed) handle(filter string, h client.Handler) {
	s.Helper()
	if err := s.c.Handle(filter, h); err != nil {
		s.Fatal(err)
	}
}

// wantHandled waits until all messages of a topic were handled, and checks that each was handled
// once, in order.
func (s *resumed) wantHandled(in *inbox, topic string) {
	s.Helper()
	in.await(s.run, "messages on "+topic, func([]*client.Message) bool { return len(in.texts(topic)) >= len(s.want[topic]) })
	s.fence(s.pub, in, topic, client.ExactlyOnce)
	s.expectExactly(in, topic, s.want[topic])
}

// wantSetAside checks that the list has these topics, each with its messages in order.
func (s *resumed) wantSetAside(topics ...string) {
	s.Helper()
	got := map[string][]string{}
	for m, err := range s.c.SetAside().All() {
		if err != nil {
			s.Fatal(err)
		}
		if m.Filter != "" || m.Err != "" || m.Attempts != 0 {
			s.Errorf("set aside as if a handler had failed: %+v", m)
		}
		got[m.Message.Topic] = append(got[m.Message.Topic], string(m.Message.Payload))
	}
	for _, topic := range topics {
		if !slices.Equal(got[topic], s.want[topic]) {
			s.Errorf("%s: set aside are %q, want %q", topic, got[topic], s.want[topic])
		}
		delete(got, topic)
	}
	if len(got) > 0 {
		s.Errorf("set aside as well: %q", got)
	}
}

// unhandled returns the number of messages reported as waiting, as refused, and as set aside.
func (s *resumed) unhandled() (waiting, refused, setAside int) {
	list, _ := s.events.snapshot()
	return countUnhandled(list)
}

func countUnhandled(list []client.Event) (waiting, refused, setAside int) {
	for _, e := range list {
		switch e := e.(type) {
		case client.Unhandled:
			if e.Waiting {
				waiting++
			} else {
				refused++
			}
		case client.MessageSetAside:
			setAside++
		}
	}
	return waiting, refused, setAside
}

// awaitUnhandled waits for at least these numbers of reports.
func (s *resumed) awaitUnhandled(waiting, refused, setAside int) {
	s.Helper()
	s.events.await(s.run, fmt.Sprintf("%d waiting, %d refused, %d set aside", waiting, refused, setAside), func(list []client.Event) bool {
		w, r, a := countUnhandled(list)
		return w >= waiting && r >= refused && a >= setAside
	})
}

// awaitAcks waits until the client has sent n PUBACKs and PUBRECs with a reason code.
func (s *resumed) awaitAcks(code byte, n int) {
	s.Helper()
	s.acks.await(s.run, fmt.Sprintf("%d acknowledgements with 0x%02X", n, code), func(list []byte) bool { return count(list, code) >= n })
}

func count[T comparable](list []T, v T) (n int) {
	for _, x := range list {
		if x == v {
			n++
		}
	}
	return n
}

// reasonCode returns the reason code of a PUBACK or PUBREC.
func reasonCode(packet []byte) byte {
	if len(packet) < 3 {
		return 0
	}
	return packet[2]
}

// With a folder, messages without a handler wait unacknowledged for the grace period. Then they are
// set aside. A handler that is declared later gets the messages of its topics, in this process and
// in the next one.
func TestUnmatched_SetAsideForALaterHandler(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		const grace = time.Second
		s := r.resumed(r.TempDir(), grace)
		begun := time.Now()
		s.process(s.known)
		s.start()
		s.wantHandled(s.in, s.known)
		s.events.await(r, "a message that is set aside", func(list []client.Event) bool {
			_, _, setAside := countUnhandled(list)
			return setAside > 0
		})
		if d := time.Since(begun); d < grace {
			r.Errorf("set aside after %v, want %v", d, grace)
		}
		s.awaitUnhandled(0, 0, 2*perTopic)
		s.wantSetAside(s.topics...)
		for _, topic := range s.topics { // each process has one grace period
			s.send("late", topic)
		}
		s.awaitUnhandled(0, 0, 4*perTopic)
		s.wantSetAside(s.topics...)
		if waiting, refused, setAside := s.unhandled(); waiting == 0 || refused != 0 || setAside != 4*perTopic {
			r.Errorf("%d reported as waiting, %d as refused, %d as set aside", waiting, refused, setAside)
		}
		first := &inbox{}
		s.handle(s.topics[0], first)
		s.wantHandled(first, s.topics[0])
		s.wantSetAside(s.topics[1])
		s.close()

		s.process(s.known)
		s.start()
		s.wantSetAside(s.topics[1])
		second := &inbox{}
		s.handle(s.topics[1], second)
		s.handle(s.topics[0], first)
		s.send("last", s.topics[1])
		s.wantHandled(second, s.topics[1])
		s.wantHandled(first, s.topics[0]) // once, over both processes
		s.wantHandled(s.in, s.known)
		s.wantSetAside()
		if n := s.c.Stats().SetAsideNow; n != 0 {
			r.Errorf("Stats.SetAsideNow is %d", n)
		}
	})
}

// Without a folder, messages without a handler are refused after the grace period, and reported.
// The server does not resend them, to this process or to the next one.
func TestUnmatched_RefusedWithoutAFolder(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		const grace = 500 * time.Millisecond
		s := r.resumed("", grace)
		begun := time.Now()
		s.process(s.known)
		s.start()
		s.wantHandled(s.in, s.known)
		s.awaitAcks(byte(wire.ReasonImplementationSpecific), 1)
		if d := time.Since(begun); d < grace {
			r.Errorf("refused after %v, want %v", d, grace)
		}
		s.awaitUnhandled(1, 2*perTopic, 0)
		s.awaitAcks(byte(wire.ReasonImplementationSpecific), 2*perTopic)
		if n := s.c.Stats().Unhandled; n != 2*perTopic {
			r.Errorf("Stats.Unhandled is %d, want %d", n, 2*perTopic)
		}
		s.settle()

		late := &inbox{}
		for _, topic := range s.topics {
			s.handle(topic, late)
			s.want[topic] = nil
		}
		s.link.Cut()
		if e := nth[client.Connected](r, s.events, 2); !e.SessionPresent {
			r.Error("the broker did not keep the session")
		}
		s.send("after a reconnect", s.topics...)
		s.wantHandled(late, s.topics[0])
		s.wantHandled(late, s.topics[1])
		s.close()

		s.process()
		s.handle(r.topic("un/+"), late)
		s.start()
		s.send("next process", s.topics...)
		s.wantHandled(late, s.topics[0])
		s.wantHandled(late, s.topics[1])
		if waiting, refused, _ := s.unhandled(); waiting+refused > 0 {
			r.Errorf("%d reported as waiting, %d as refused", waiting, refused)
		}
	})
}

// folders runs a test with Config.Dir and with an in-memory store.
func folders(t *testing.T, test func(r *run, dir string)) {
	for _, name := range []string{"folder", "memory"} {
		t.Run(name, func(t *testing.T) {
			onEachBroker(t, setup{}, func(r *run) {
				dir := ""
				if name == "folder" {
					dir = r.TempDir()
				}
				test(r, dir)
			})
		})
	}
}

// The fallback handler gets messages without a handler at once. Messages with a handler wait,
// because they were sent for a subscription that this process has not declared.
func TestUnmatched_FallbackHandlerGetsThem(t *testing.T) {
	t.Parallel()
	folders(t, func(r *run, dir string) {
		s := r.resumed(dir, time.Second)
		rest := &inbox{}
		s.process(s.known)
		if err := s.c.HandleUnmatched(rest); err != nil {
			r.Fatal(err)
		}
		s.start()
		for _, topic := range s.topics {
			s.wantHandled(rest, topic)
		}
		s.wantHandled(s.in, s.known)
		if got := rest.texts(s.known); len(got) > 0 {
			r.Errorf("the fallback handler got %q of a topic with a handler", got)
		}
		if waiting, _, _ := s.unhandled(); waiting > 0 {
			r.Errorf("%d reported as waiting", waiting)
		}
		s.wantAllAccepted()
	})
}

// wantAllAccepted checks that no message was refused or set aside.
func (s *resumed) wantAllAccepted() {
	s.Helper()
	if _, refused, setAside := s.unhandled(); refused+setAside > 0 {
		s.Errorf("%d reported as refused, %d as set aside", refused, setAside)
	}
	if s.cfg.Dir != "" {
		s.wantSetAside()
	}
	list, _ := s.acks.snapshot()
	if n := count(list, 0); n != len(list) {
		s.Errorf("%d acknowledgements refuse a message", len(list)-n)
	}
}

// A handler that is declared within the grace period gets the messages that wait for it. If the
// subscription that caused them has the same filter, it gets them at once. For another filter it
// gets them when the period ends, because the handler of that subscription may still be declared.
// In this test the period ends when half of the receive window is unacknowledged.
func TestUnmatched_HandlerDeclaredWithinTheGracePeriod(t *testing.T) {
	t.Parallel()
	for name, filter := range map[string]string{"same filter": "un/#", "other filter": "un/+"} {
		t.Run(name, func(t *testing.T) {
			folders(t, func(r *run, dir string) {
				s := r.resumed(dir, time.Hour)
				s.cfg.Receiving.ReceiveMaximum = 2 * 4 * perTopic
				s.process()
				s.start()
				s.awaitUnhandled(3*perTopic, 0, 0)
				if list, _ := s.acks.snapshot(); len(list) > 0 {
					r.Errorf("%d messages are acknowledged before they have a handler", len(list))
				}
				s.handle(r.topic(filter), s.in)
				topics := append(s.topics, s.known)
				s.send("next", topics...)
				for _, topic := range topics {
					s.wantHandled(s.in, topic)
				}
				s.wantAllAccepted()
			})
		})
	}
}

// Start precedes Subscribe by a second. Messages that wait in the session are handled once, in
// order, and none is refused.
func TestStartBeforeSubscribe(t *testing.T) {
	t.Parallel()
	folders(t, func(r *run, dir string) {
		s := r.resumed(dir, 0)
		s.process()
		s.start()
		time.Sleep(time.Second)
		s.awaitUnhandled(3*perTopic, 0, 0)
		if list, _ := s.acks.snapshot(); len(list) > 0 {
			r.Errorf("%d messages are acknowledged before they have a handler", len(list))
		}
		if _, err := s.c.Subscribe(r.ctx, r.topic("un/#"), client.ExactlyOnce, s.in); err != nil {
			r.Fatal(err)
		}
		topics := append(s.topics, s.known)
		s.send("next", topics...)
		for _, topic := range topics {
			s.wantHandled(s.in, topic)
		}
		s.wantAllAccepted()
	})
}

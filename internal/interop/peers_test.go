package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
)

// peer runs one of mosquitto's clients with the broker and returns its output.
func (r *run) peer(program string, args ...string) string {
	r.Helper()
	requireProgram(r.T, program)
	u, err := url.Parse(r.broker.URL())
	if err != nil {
		r.Fatal(err)
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		r.Fatal(err)
	}
	args = append([]string{"-V", "mqttv5", "-h", host, "-p", port}, args...)
	var cfg client.Config
	if login(r.broker, &cfg); cfg.Connection.Username != "" {
		args = append(args, "-u", cfg.Connection.Username, "-P", string(cfg.Connection.Password))
	}
	out, err := exec.CommandContext(r.ctx, program, args...).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		r.Fatalf("%s: %v: %s", program, err, failed.Stderr)
	} else if err != nil {
		r.Fatalf("%s: %v", program, err)
	}
	return string(out)
}

// foreignMessage publishes with mosquitto_pub, with an identity like that of this client's messages
// (docs/wire.md).
func (r *run) foreignMessage(topic string, qos client.QoS, id string, seq int) {
	r.Helper()
	user := func(name, value string) []string { return []string{"-D", "publish", "user-property", name, value} }
	args := slices.Concat([]string{"-t", topic, "-q", strconv.Itoa(int(qos)), "-m", numbered(seq)},
		user("m-id", id), user("m-pub", "elsewhere"), user("m-epoch", "7"), user("m-seq", strconv.Itoa(seq)), user("own", "kept"))
	r.peer("mosquitto_pub", args...)
}

func TestMosquittoPub_DeduplicatedAndOrdered(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("from/mosquitto_pub")
		cfg := r.config("sub")
		cache := dedupe.NewMemory(dedupe.Options{})
		r.Cleanup(func() { _ = cache.Close() })
		cfg.Receiving.Dedupe = cache
		cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{Start: ordering.FromOne, GapTimeout: timeout}}
		sub := r.start(cfg)
		in := r.subscribe(sub, topic, client.ExactlyOnce)
		ids := make([]string, 6)
		for i := range ids {
			ids[i] = client.NewMessageID().String()
		}
		ids[4] = "any text will do" // not every publisher uses UUIDs
		for _, seq := range []int{1, 3, 3, 2, 1, 5, 4, 4} {
			r.foreignMessage(topic, client.QoS(1+seq%2), ids[seq], seq)
		}
		list := in.awaitN(r, "messages", 5)
		for i, m := range list {
			want := client.Message{
				Topic: topic, Payload: []byte(numbered(i + 1)), ID: client.ParseMessageID(ids[i+1]),
				QoS: client.QoS(1 + (i+1)%2), UserProperties: []client.UserProperty{{Key: "own", Value: "kept"}},
				Origin: client.Origin{Publisher: "elsewhere", Epoch: 7, Seq: uint64(i + 1)},
			}
			expectProperties(r, m, want, false)
		}
		r.fence(r.start(r.config("pub")), in, topic, client.ExactlyOnce)
		r.expectExactly(in, topic, []string{"00001", "00002", "00003", "00004", "00005"})
		if n := sub.Stats().Duplicates; n != 3 {
			r.Errorf("%d duplicates were counted, want 3", n)
		}
	})
}

func TestMosquittoSub_ReadsAllProperties(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic, peerID := r.topic("to/mosquitto_sub"), r.name+"peer"
		session := []string{"-c", "-x", "60", "-i", peerID, "-q", "2", "-t", topic}
		r.mu.Lock()
		r.sessions[peerID] = true
		r.mu.Unlock()
		r.peer("mosquitto_sub", append(session, "-E")...) // ends after it has subscribed; its session stays

		cfg := r.config("pub")
		cfg.Publishing.Sequenced, cfg.Publishing.Publisher = true, "harbour"
		publisher := r.start(cfg)
		var want []string
		for i, qos := range []client.QoS{1, 2, 2} {
			d := r.deliver(publisher, client.Message{
				Topic: topic, Payload: []byte(numbered(i)), QoS: qos, Expiry: time.Hour,
				ContentType: "text/plain", ResponseTopic: "answers/here", CorrelationData: []byte("call 7"), PayloadIsUTF8: true,
				UserProperties: []client.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
			})
			stamps := fmt.Sprintf("m-id:%v m-pub:harbour m-epoch:EPOCH m-seq:%d", d.ID, i+1)
			want = append(want, fmt.Sprintf("%s|%d|text/plain|answers/here|call 7|1|b:1 a:2 b:3 %s|%s|", topic, qos, stamps, numbered(i)))
		}
		out := r.peer("mosquitto_sub", append(session, "-C", "3", "-F", "%t|%q|%C|%R|%D|%F|%P|%p|%E")...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != len(want) {
			r.Fatalf("mosquitto_sub printed %q, want %d lines", out, len(want))
		}
		for i, line := range lines {
			_, rest, _ := strings.Cut(line, "m-epoch:")
			epoch, _, _ := strings.Cut(rest, " ")
			if _, err := strconv.ParseUint(epoch, 10, 64); err != nil {
				r.Errorf("the epoch of %q is no number: %v", line, err)
			}
			left, found := strings.CutPrefix(line, strings.Replace(want[i], "EPOCH", epoch, 1))
			if !found {
				r.Errorf("mosquitto_sub reads\n got %q\nwant %q and the expiry", line, want[i])
				continue
			}
			if seconds, err := strconv.Atoi(left); err != nil || seconds > 3600 || seconds < 3600-int(timeout.Seconds()) {
				r.Errorf("mosquitto_sub reads the expiry %q, want 3600 less the time on the way", left)
			}
		}
	})
}

func TestMosquittoPub_RepeatedMessageIsHandledOnce(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		// A script publishes again if it does not know whether it succeeded. That is the most
		// common kind of publisher.
		topic := r.topic("again")
		cfg := r.config("sub")
		cache := dedupe.NewMemory(dedupe.Options{})
		r.Cleanup(func() { _ = cache.Close() })
		cfg.Receiving.Dedupe = cache
		in := &inbox{}
		c := r.start(cfg)
		attempts := 0
		// The first attempt fails. An ID that was not handled is not a duplicate.
		handler := client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			if attempts++; attempts == 1 {
				return client.Refuse(0x80, "not now")
			}
			return in.Handle(ctx, m)
		})
		if _, err := c.Subscribe(r.ctx, topic, client.AtLeastOnce, handler); err != nil {
			r.Fatal(err)
		}
		id := client.NewMessageID().String()
		for range 3 {
			r.foreignMessage(topic, client.AtLeastOnce, id, 1)
		}
		r.fence(r.start(r.config("pub")), in, topic, client.AtLeastOnce)
		r.expectExactly(in, topic, []string{"00001"})
		if attempts != 3 { // refused, handled, the fence
			r.Errorf("the handler was called %d times, want 3", attempts)
		}
	})
}

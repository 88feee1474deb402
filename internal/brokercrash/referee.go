package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// referee compares the messages accepted from the publisher with those that the receiver got. It
// also examines the packets between the publisher and the broker. It uses none of the client's
// counters.
type referee struct {
	verbose bool

	mu       sync.Mutex
	accepted map[string]bool   // by topic and payload
	flights  map[uint16]string // the last message sent under each packet identifier
	acked    map[string]bool   // messages for which the broker has sent PUBREC without an error
	refused  map[byte]int      // number of PUBRECs by error reason code
	purged   int               // number of PUBCOMPs with Packet Identifier not found
	got      map[string]bool
	handled  map[string]bool   // messages for which the subscriber has sent PUBREC without an error
	inbound  map[uint16]string // the last message sent to the subscriber under each packet identifier
	ready    chan struct{}     // closed when the broker has answered the subscriber's first SUBSCRIBE
	open     map[uint16]bool   // incomplete packet identifiers of the subscriber's connection
	mostOpen int
	denied   int // number of the subscriber's PUBRECs with an error
	repaired int // effects of the subscriber whose dedupe keys were not committed before a kill
	last     map[string]position
	doubled  []string
	wrong    []string
	stats    string    // final output of the publisher
	up       time.Time // when the broker came up; zero: a message was acknowledged since
	resumed  []time.Duration

	journaled int64 // number of bytes read from the subscriber's journal
}

type position struct{ boot, n uint64 }

func newReferee(verbose bool) *referee {
	return &referee{verbose: verbose, accepted: map[string]bool{}, flights: map[uint16]string{}, acked: map[string]bool{},
		refused: map[byte]int{}, handled: map[string]bool{}, inbound: map[uint16]string{}, ready: make(chan struct{}), open: map[uint16]bool{}, got: map[string]bool{}, last: map[string]position{}}
}

// publisherSays handles an output line of the publisher.
func (r *referee) publisherSays(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "accepted":
		r.accepted[rest] = true
		return
	case "stats":
		r.stats = rest
	}
	if r.verbose || word == "error" {
		fmt.Println(time.Now().Format("15:04:05.000"), "publisher:", line)
	}
}

// received handles a message that the receiver's handler got.
func (r *referee) received(topic string, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := topic + " " + string(payload)
	if r.got[key] {
		r.doubled = append(r.doubled, key)
		return
	}
	r.got[key] = true
	var at position
	if _, err := fmt.Sscanf(string(payload), "%d/%d", &at.boot, &at.n); err != nil {
		r.wrong = append(r.wrong, key)
	}
	before := r.last[topic]
	if at.boot < before.boot || at.boot == before.boot && at.n < before.n {
		r.wrong = append(r.wrong, fmt.Sprintf("%s after %v", key, before))
		return
	}
	r.last[topic] = at
}

// packet examines a packet between the publisher and the broker.
func (r *referee) packet(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
	f := wire.Frame{Header: header, Raw: body, Body: body}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch t := wire.Type(header >> 4); {
	case dir == mqtttest.ToServer && t == wire.PUBLISH:
		v, err := wire.ParsePublish(f)
		if err == nil {
			r.flights[v.PacketID] = string(v.Topic) + " " + string(v.Payload)
		}
	case dir == mqtttest.ToClient && (t == wire.PUBREC || t == wire.PUBCOMP):
		a, err := wire.ParseAck(f)
		switch {
		case err != nil:
		case a.Reason >= 0x80 && t == wire.PUBCOMP:
			r.purged++
		case a.Reason >= 0x80:
			r.refused[a.Reason]++
		case t == wire.PUBREC:
			r.acked[r.flights[a.PacketID]] = true
			if !r.up.IsZero() {
				r.resumed = append(r.resumed, time.Since(r.up))
				r.up = time.Time{}
			}
		}
	}
	return mqtttest.ActionPass
}

// subscriberSays handles an output line of the subscriber.
func (r *referee) subscriberSays(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int
	if _, err := fmt.Sscanf(line, "repaired %d", &n); err == nil {
		r.repaired += n
	}
	if r.verbose {
		fmt.Println(time.Now().Format("15:04:05.000"), "subscriber:", line)
	}
}

// subscriberPacket examines a packet between the subscriber and the broker.
func (r *referee) subscriberPacket(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
	f := wire.Frame{Header: header, Raw: body, Body: body}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch t := wire.Type(header >> 4); {
	case dir == mqtttest.ToClient && t == wire.PUBLISH:
		if v, err := wire.ParsePublish(f); err == nil {
			r.inbound[v.PacketID] = string(v.Topic) + " " + string(v.Payload)
			r.open[v.PacketID] = true
			r.mostOpen = max(r.mostOpen, len(r.open))
		}
	case dir == mqtttest.ToServer && t == wire.CONNECT:
		clear(r.open)
	case dir == mqtttest.ToServer && t == wire.PUBCOMP:
		if a, err := wire.ParseAck(f); err == nil {
			delete(r.open, a.PacketID)
		}
	case dir == mqtttest.ToClient && t == wire.SUBACK:
		select {
		case <-r.ready:
		default:
			close(r.ready)
		}
	case dir == mqtttest.ToServer && t == wire.PUBREC:
		switch a, err := wire.ParseAck(f); {
		case err != nil:
		case a.Reason >= 0x80:
			r.denied++
		default:
			r.handled[r.inbound[a.PacketID]] = true
		}
	}
	return mqtttest.ActionPass
}

// swallowed returns the messages that the subscriber has acknowledged but not handled.
func (r *referee) swallowed() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.handled {
		if !r.got[key] {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

// brokerUp records that the broker accepts connections again.
func (r *referee) brokerUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = time.Now()
}

// missing returns the accepted messages that the receiver did not get.
func (r *referee) missing() (lost, forgotten []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.accepted {
		switch {
		case r.got[key], r.handled[key]: // see swallowed
		case r.acked[key]:
			forgotten = append(forgotten, key)
		default:
			lost = append(lost, key)
		}
	}
	slices.Sort(lost)
	slices.Sort(forgotten)
	return lost, forgotten
}

// hasResumed reports whether the broker has accepted a message since its restart.
func (r *referee) hasResumed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up.IsZero()
}

func (r *referee) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

package ordering_test

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/ordering"
)

func ExampleResequencer() {
	r := ordering.NewResequencer[string](ordering.Options{
		OnGap: func(g ordering.Gap) { fmt.Printf("gap %d to %d: %v\n", g.From, g.To, g.Reason) },
	})
	handle := func(v string, outOfOrder bool) { fmt.Println("handle", v) }
	push := func(epoch, seq uint64, v string) {
		if result := r.Push("publisher 7/plant/1", epoch, seq, ordering.HashID(v), v, handle); result != ordering.Delivered {
			fmt.Println(v, "is", result)
		}
	}
	push(1, 1, "a")
	push(1, 3, "c")
	push(1, 2, "b") // and c, which waited for it
	push(1, 2, "b")
	push(1, 6, "f")
	push(2, 1, "A") // the publisher lost its numbers and starts over
	push(2, 1, "Z") // another device was cloned from it
	// Output:
	// handle a
	// c is held
	// handle b
	// handle c
	// b is duplicate
	// f is held
	// gap 4 to 5: new epoch
	// handle f
	// handle A
	// handle Z
	// Z is number reused
}

// The caller must call Expire when it is due. It can use a timer that it resets to the time that
// Expire returns.
func ExampleResequencer_Expire() {
	r := ordering.NewResequencer[string](ordering.Options{
		GapTimeout: time.Millisecond,
		OnGap:      func(g ordering.Gap) { fmt.Printf("gap %d to %d: %v\n", g.From, g.To, g.Reason) },
	})
	handle := func(v string, outOfOrder bool) { fmt.Println("handle", v, outOfOrder) }
	r.Push("k", 1, 1, ordering.HashID("a"), "a", handle)
	r.Push("k", 1, 5, ordering.HashID("e"), "e", handle)
	for next := r.Expire(handle); !next.IsZero(); next = r.Expire(handle) {
		<-time.After(time.Until(next))
	}
	fmt.Println("2 is", r.Push("k", 1, 2, ordering.HashID("b"), "b", handle)) // late is better than lost
	// Output:
	// handle a false
	// gap 2 to 4: timed out
	// handle e false
	// handle b true
	// 2 is late
}

func ExampleEncodeEnvelope() {
	sent := time.UnixMilli(1_700_000_000_000)
	b, _ := ordering.EncodeEnvelope(ordering.Envelope{ID: "0192f0", Sequence: 7, Timestamp: sent, Payload: []byte(`{"celsius":21.5}`)})
	fmt.Println(string(b))
	b, _ = ordering.EncodeEnvelope(ordering.Envelope{Sequence: 8, Payload: []byte{0xCA, 0xFE}})
	fmt.Println(string(b))
	// Output:
	// {"id":"0192f0","sequence":7,"timestamp":1700000000000,"payload":{"celsius":21.5}}
	// {"sequence":8,"encoding":"base64","payload":"yv4="}
}

func ExampleDecodeEnvelope() {
	e, err := ordering.DecodeEnvelope([]byte(`{"sequence": 3, "timestamp": 1700000000000, "payload": {"valve": "open"}}`))
	fmt.Println(e.Sequence, e.Timestamp.Format(time.RFC3339), string(e.Payload), err)
	_, err = ordering.DecodeEnvelope([]byte(`{"sequence": 3.5, "payload": 1}`))
	fmt.Println(err)
	// Output:
	// 3 2023-11-14T22:13:20Z {"valve": "open"} <nil>
	// ordering: invalid envelope: sequence must be an integer from 0 to 18446744073709551615
}

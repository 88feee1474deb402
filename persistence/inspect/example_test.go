package inspect_test

import (
	"fmt"
	"os"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// Print the messages that an application has left in its log.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "inspect")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	log, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, packet := range []string{"one", "two", "three"} {
		if _, err := persistence.Append(log, &persistence.Message{Packet: []byte(packet)}); err != nil {
			fmt.Println(err)
		}
	}
	log.Done(2, persistence.Result{Kind: persistence.Refused, Reason: 0x97})
	log.Close()

	in, err := inspect.Open(dir, persistence.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer in.Close()
	fmt.Println(in.Stats.Accepted, "accepted,", in.Stats.Pending, "pending,", len(in.Corruptions), "damaged places")
	err = in.Messages(inspect.All, func(m *inspect.Message) bool {
		fmt.Printf("%d %s %v\n", m.Seq, m.Packet, m.Result.Kind)
		return true
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// 3 accepted, 2 pending, 0 damaged places
	// 1 one pending
	// 2 two refused
	// 3 three pending
}

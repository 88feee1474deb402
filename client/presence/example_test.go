package presence_test

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

func ExampleStatus_Append() {
	boot, _ := presence.ParseBootID("0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a")
	birth := presence.Status{State: presence.Online, Boot: boot, Reason: presence.ReasonBirth,
		Time: time.Date(2026, 11, 22, 14, 33, 21, 0, time.UTC), Interval: 30 * time.Second}
	fmt.Printf("%s\n", birth.Append(nil))
	// Output: {"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21Z","reason":"birth","interval":30}
}

func ExampleParse() {
	for _, payload := range []string{"online", `{"state":"offline","reason":"will"}`, "21.5"} {
		s, err := presence.Parse([]byte(payload))
		fmt.Println(s.State, s.Reason, err)
	}
	// Output:
	// online  <nil>
	// offline will <nil>
	// unknown  presence: no status payload: neither online nor offline nor a JSON object
}

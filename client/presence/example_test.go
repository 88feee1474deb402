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
	// unknown  presence: invalid status payload: neither online nor offline nor a JSON object
}

func ExampleTracker() {
	t := presence.NewTracker(presence.Options{StaleAfter: 10 * time.Second})
	now := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	hear := func(topic, payload string, retained bool) {
		c, changed := t.Apply(presence.Message{Topic: topic, Payload: []byte(payload), At: now, Retained: retained})
		if changed {
			fmt.Printf("%s: %v, was %v\n", c.Device.Topic, c.Device.State, c.From)
		}
	}
	hear("press/4/status", "online", true)
	hear("press/5/status", "online", true)
	t.Synced(now, nil)
	hear("press/5/status", "offline", false)

	t.Lost(now) // the observer's link
	now = now.Add(10 * time.Second)
	for _, topic := range []string{"press/4/status", "press/5/status"} {
		d, _ := t.Get(topic, now)
		fmt.Println(topic, "is", d.State)
	}
	hear("press/4/status", "online", true) // nothing changed
	d, _ := t.Get("press/4/status", now)
	fmt.Println(d.Topic, "is", d.State)
	// Output:
	// press/4/status: online, was unknown
	// press/5/status: online, was unknown
	// press/5/status: offline, was online
	// press/4/status is stale
	// press/5/status is offline
	// press/4/status is online
}

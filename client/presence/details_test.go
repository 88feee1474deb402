package presence_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client/presence"
)

func details(t testing.TB, texts map[string]string) presence.Details {
	d, err := presence.NewDetails(texts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDetails(t *testing.T) {
	texts := map[string]string{"battery": "81 %", "site": "north <2>"}
	d := details(t, texts)
	if !maps.Equal(d.Map(), texts) || d.Get("battery") != "81 %" || d.Get("Battery") != "" || d != details(t, maps.Clone(texts)) || d.Size() != len(d.String()) {
		t.Errorf("got %v", d)
	}
	d.Map()["battery"] = "0"
	if d.Get("battery") != "81 %" {
		t.Error("the caller has changed the details")
	}
	if (presence.Details{}).Map() != nil || details(t, nil) != (presence.Details{}) {
		t.Error("no texts are not the zero value")
	}
	room := presence.MaxDetails - len(`{"a":""}`)
	if d := details(t, map[string]string{"a": strings.Repeat("x", room)}); d.Size() != presence.MaxDetails {
		t.Errorf("%d bytes", d.Size())
	}
	if _, err := presence.NewDetails(map[string]string{"a": strings.Repeat("x", room+1)}); !errors.Is(err, presence.ErrDetails) {
		t.Error(err)
	}
}

func TestStatus_Details(t *testing.T) {
	want := presence.Status{State: presence.Online, Boot: someBoot, Version: "1", Details: details(t, map[string]string{"a": "b", "c": "\"\x01"})}
	if got, err := presence.Parse(want.Append(nil)); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	s := want // the largest payload is not too large for Parse
	s.Reason, s.Version = strings.Repeat("\x01", presence.MaxText), strings.Repeat("\x01", presence.MaxText)
	s.Details, s.Interval, s.Time = details(t, map[string]string{"a": strings.Repeat("x", presence.MaxDetails-8)}), presence.MaxInterval, begin.Add(1)
	if got, err := presence.Parse(s.Append(nil)); err != nil || got != s {
		t.Errorf("got %+v, %v", got, err)
	}
	for payload, want := range map[string]map[string]string{
		`{"battery":81.5,"door":true,"list":[1],"none":null,"site":"n","deep":{"a":"b"}}`: {"battery": "81.5", "door": "true", "site": "n"},
		`"text"`: nil, `[]`: nil, `null`: nil, `{}`: nil,
		`{"a":"` + strings.Repeat("x", presence.MaxDetails) + `"}`: nil,
	} {
		got, err := presence.Parse([]byte(`{"state":"online","unknown":{"x":1},"details":` + payload + `}`))
		if err != nil || !maps.Equal(got.Details.Map(), want) {
			t.Errorf("%s: got %v, %v", payload, got.Details, err)
		}
	}
}

// TestTracker_KeepsDetailsAfterWill: a will has no details, so those of the last online status remain.
func TestTracker_KeepsDetailsAfterWill(t *testing.T) {
	r := newRig(t, presence.Options{})
	low := details(t, map[string]string{"battery": "3 %"})
	say := func(state presence.State, d presence.Details) presence.Device {
		r.live("a", string(presence.Status{State: state, Boot: someBoot, Details: d}.Append(nil)))
		got, _ := r.Get("a", r.now)
		return got
	}
	say(presence.Online, details(t, map[string]string{"battery": "81 %"}))
	if d := say(presence.Online, low); d.Details != low || d.Status.Details != low {
		t.Errorf("got %+v", d)
	}
	if d := say(presence.Offline, presence.Details{}); d.Details != low || d.Status.Details != (presence.Details{}) {
		t.Errorf("after the will: %+v", d)
	}
	if d := say(presence.Online, presence.Details{}); d.Details != (presence.Details{}) {
		t.Errorf("an online status without details: %+v", d)
	}
}

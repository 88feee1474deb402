package presence_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

var someBoot = presence.BootID{0x01, 0x90, 0xb8, 0xf0, 0x7d, 0x2a, 0x7c, 0x11, 0x8a, 0x44, 0x1f, 0x2e, 0x3d, 0x4c, 0x5b, 0x6a}

func TestParse(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 33, 21, 500_000_000, time.UTC)
	for _, c := range []struct {
		payload string
		want    presence.Status
	}{
		{`online`, presence.Status{State: presence.Online}},
		{`offline`, presence.Status{State: presence.Offline}},
		{" offline\r\n", presence.Status{State: presence.Offline}},
		{`{"state":"online"}`, presence.Status{State: presence.Online}},
		{`{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30}`,
			presence.Status{presence.Online, someBoot, at, presence.ReasonBirth, "1.4.2", 30 * time.Second, presence.Details{}}},
		{`{"state":"offline","boot":"0190B8F0-7D2A-7C11-8A44-1F2E3D4C5B6A","time":"2026-11-22T15:33:21.5+01:00"}`,
			presence.Status{State: presence.Offline, Boot: someBoot, Time: at}},
		{`{"state":"online","future":{"a":[1]},"reason":"\u00fcber"}`, presence.Status{State: presence.Online, Reason: "über"}},
		{`{"state":"online","State":"offline","REASON":"x"}`, presence.Status{State: presence.Online}},
		{`{"state":"offline","state":"online"}`, presence.Status{State: presence.Online}},
		{`{"state":"online","boot":"press-4","time":"yesterday","reason":7,"version":null,"interval":"often"}`, presence.Status{State: presence.Online}},
		{`{"state":"online","boot":"00000000-0000-0000-0000-000000000000","time":"0001-01-01T00:00:00Z","interval":-1}`, presence.Status{State: presence.Online}},
		{`{"state":"online","interval":0.2}`, presence.Status{State: presence.Online, Interval: time.Second}},
		{`{"state":"online","interval":1e300}`, presence.Status{State: presence.Online, Interval: presence.MaxInterval}},
		{`{"state":"online","interval":1e999}`, presence.Status{State: presence.Online}},
		{`{"state":"online","reason":"` + strings.Repeat("ü", 100) + `"}`, presence.Status{State: presence.Online, Reason: strings.Repeat("ü", 64)}},
		{`{"state":"online","reason":"x` + strings.Repeat("ü", 100) + `"}`, presence.Status{State: presence.Online, Reason: "x" + strings.Repeat("ü", 63)}},
	} {
		got, err := presence.Parse([]byte(c.payload))
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v; want %+v", c.payload, got, err, c.want)
		}
	}
}

func TestParse_RejectsInvalidPayloads(t *testing.T) {
	for _, payload := range []string{
		"", " ", "Online", "on", `"online"`, "online offline", "null", "[]", "{", "{}", `{"state":"online"} x`, `{"state":"online"`,
		`{"state":"stale"}`, `{"state":"unknown"}`, `{"state":true}`, `{"state":null}`, `{"State":"online"}`, `{"state":"ONLINE"}`,
		`{"state":"online","pad":"` + strings.Repeat("x", presence.MaxPayload) + `"}`, "\x00",
	} {
		if s, err := presence.Parse([]byte(payload)); !errors.Is(err, presence.ErrPayload) || s != (presence.Status{}) {
			t.Errorf("%.40q: got %+v, %v; want ErrPayload", payload, s, err)
		}
	}
}

func TestAppend(t *testing.T) {
	at := time.Date(2026, 11, 22, 15, 33, 21, 500_000_000, time.FixedZone("", 3600))
	for _, c := range []struct {
		s    presence.Status
		want string
	}{
		{presence.Status{}, `{"state":"offline"}`},
		{presence.Status{State: presence.Stale}, `{"state":"offline"}`},
		{presence.Status{presence.Online, someBoot, at, presence.ReasonBirth, "1.4.2", 29*time.Second + 1, presence.Details{}},
			`{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30}`},
		{presence.Status{State: presence.Offline, Time: at.AddDate(9000, 0, 0), Reason: "\xff", Interval: 1 << 62}, `{"state":"offline","reason":"\ufffd","interval":2592000}`},
	} {
		if got := string(c.s.Append([]byte("x"))); got != "x"+c.want {
			t.Errorf("%+v: got %s, want %s", c.s, got[1:], c.want)
		}
	}
}

func TestState_String(t *testing.T) {
	for s, want := range map[presence.State]string{presence.Unknown: "unknown", presence.Online: "online", presence.Offline: "offline", presence.Stale: "stale", 99: "unknown"} {
		if s.String() != want {
			t.Errorf("%d: got %q, want %q", s, s.String(), want)
		}
	}
	if (presence.BootID{}).String() != "" || someBoot.String() != "0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a" {
		t.Errorf("got %q and %q", presence.BootID{}.String(), someBoot.String())
	}
}

// FuzzParse: Parse does not panic for any payload. A parsed status is within its limits, and Append and
// Parse reproduce it.
func FuzzParse(f *testing.F) {
	f.Add([]byte("online"))
	f.Add([]byte(`{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30}`))
	f.Add([]byte(`{"state":"offline","reason":"\ud800 \u2028","interval":0.5,"time":"9999-12-31T23:59:59-10:00"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := presence.Parse(payload)
		if err != nil {
			if s != (presence.Status{}) || !errors.Is(err, presence.ErrPayload) {
				t.Fatalf("got %+v with %v", s, err)
			}
			return
		}
		if s.State != presence.Online && s.State != presence.Offline || len(s.Reason) > presence.MaxText || len(s.Version) > presence.MaxText || s.Interval < 0 || s.Interval > presence.MaxInterval {
			t.Fatalf("beyond the limits: %+v", s)
		}
		written := s.Append(nil)
		again, err := presence.Parse(written)
		if err != nil || again != s {
			t.Fatalf("%+v came back from %s as %+v, %v", s, written, again, err)
		}
	})
}

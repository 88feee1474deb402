package presence

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var someBoot = BootID{0x01, 0x90, 0xb8, 0xf0, 0x7d, 0x2a, 0x7c, 0x11, 0x8a, 0x44, 0x1f, 0x2e, 0x3d, 0x4c, 0x5b, 0x6a}

func TestParse(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 33, 21, 500_000_000, time.UTC)
	for _, c := range []struct {
		payload string
		want    Status
	}{
		{`online`, Status{State: Online}},
		{`offline`, Status{State: Offline}},
		{" offline\r\n", Status{State: Offline}},
		{`{"state":"online"}`, Status{State: Online}},
		{`{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30}`,
			Status{Online, someBoot, at, ReasonBirth, "1.4.2", 30 * time.Second}},
		{`{"state":"offline","boot":"0190B8F0-7D2A-7C11-8A44-1F2E3D4C5B6A","time":"2026-11-22T15:33:21.5+01:00"}`,
			Status{State: Offline, Boot: someBoot, Time: at}},
		{`{"state":"online","future":{"a":[1]},"reason":"\u00fcber"}`, Status{State: Online, Reason: "über"}},
		{`{"state":"online","State":"offline","REASON":"x"}`, Status{State: Online}},
		{`{"state":"offline","state":"online"}`, Status{State: Online}},
		{`{"state":"online","boot":"press-4","time":"yesterday","reason":7,"version":null,"interval":"often"}`, Status{State: Online}},
		{`{"state":"online","boot":"00000000-0000-0000-0000-000000000000","time":"0001-01-01T00:00:00Z","interval":-1}`, Status{State: Online}},
		{`{"state":"online","interval":0.2}`, Status{State: Online, Interval: time.Second}},
		{`{"state":"online","interval":1e300}`, Status{State: Online, Interval: MaxInterval}},
		{`{"state":"online","interval":1e999}`, Status{State: Online}},
		{`{"state":"online","reason":"` + strings.Repeat("ü", 100) + `"}`, Status{State: Online, Reason: strings.Repeat("ü", 64)}},
		{`{"state":"online","reason":"x` + strings.Repeat("ü", 100) + `"}`, Status{State: Online, Reason: "x" + strings.Repeat("ü", 63)}},
	} {
		got, err := Parse([]byte(c.payload))
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v; want %+v", c.payload, got, err, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, payload := range []string{
		"", " ", "Online", "on", `"online"`, "online offline", "null", "[]", "{", "{}", `{"state":"online"} x`, `{"state":"online"`,
		`{"state":"stale"}`, `{"state":"unknown"}`, `{"state":true}`, `{"state":null}`, `{"State":"online"}`, `{"state":"ONLINE"}`,
		`{"state":"online","pad":"` + strings.Repeat("x", MaxPayload) + `"}`, "\x00",
	} {
		if s, err := Parse([]byte(payload)); !errors.Is(err, ErrPayload) || s != (Status{}) {
			t.Errorf("%.40q: got %+v, %v; want ErrPayload", payload, s, err)
		}
	}
}

func TestAppend(t *testing.T) {
	at := time.Date(2026, 11, 22, 15, 33, 21, 500_000_000, time.FixedZone("", 3600))
	for _, c := range []struct {
		s    Status
		want string
	}{
		{Status{}, `{"state":"offline"}`},
		{Status{State: Stale}, `{"state":"offline"}`},
		{Status{Online, someBoot, at, ReasonBirth, "1.4.2", 29*time.Second + 1},
			`{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30}`},
		{Status{State: Offline, Time: at.AddDate(9000, 0, 0), Reason: "\xff", Interval: 1 << 62}, `{"state":"offline","reason":"\ufffd","interval":2592000}`},
	} {
		if got := string(c.s.Append([]byte("x"))); got != "x"+c.want {
			t.Errorf("%+v: got %s, want %s", c.s, got[1:], c.want)
		}
	}
}

func TestStateString(t *testing.T) {
	for s, want := range map[State]string{Unknown: "unknown", Online: "online", Offline: "offline", Stale: "stale", 99: "unknown"} {
		if s.String() != want {
			t.Errorf("%d: got %q, want %q", s, s.String(), want)
		}
	}
	if (BootID{}).String() != "" || someBoot.String() != "0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a" {
		t.Errorf("got %q and %q", BootID{}.String(), someBoot.String())
	}
}

// FuzzParse: no payload crashes, what is parsed is within its limits, and comes
// back the same from what Append writes.
func FuzzParse(f *testing.F) {
	f.Add([]byte("online"))
	f.Add([]byte(`{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30}`))
	f.Add([]byte(`{"state":"offline","reason":"\ud800 \u2028","interval":0.5,"time":"9999-12-31T23:59:59-10:00"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := Parse(payload)
		if err != nil {
			if s != (Status{}) || !errors.Is(err, ErrPayload) {
				t.Fatalf("got %+v with %v", s, err)
			}
			return
		}
		if s.State != Online && s.State != Offline || len(s.Reason) > MaxText || len(s.Version) > MaxText || s.Interval < 0 || s.Interval > MaxInterval {
			t.Fatalf("beyond the limits: %+v", s)
		}
		written := s.Append(nil)
		again, err := Parse(written)
		if err != nil || again != s {
			t.Fatalf("%+v came back from %s as %+v, %v", s, written, again, err)
		}
	})
}

package link

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestReferences(t *testing.T) {
	for _, c := range []struct{ from, reference, want string }{
		// The examples of section 4.11.
		{"mqtt://a:1883", "myserver.xyz.org", "mqtt://myserver.xyz.org:1883"},
		{"mqtt://a:1883", "myserver.xyz.org:8883", "mqtt://myserver.xyz.org:8883"},
		{"mqtt://a:1883", "10.10.151.22:8883 [fe80::9610:3eff:fe1c]:1883", "mqtt://10.10.151.22:8883 mqtt://[fe80::9610:3eff:fe1c]:1883"},

		{"mqtts://a:8884", "b", "mqtts://b:8884"},
		{"mqtt://a:1883", "AZ-az_09.example b:0 c:1 d:65535 e:65536", "mqtt://AZ-az_09.example:1883 mqtt://c:1 mqtt://d:65535"},
		{"mqtts://a:8884", "[::1]", "mqtts://[::1]:8884"},
		{"mqtts://a:8884", "::1", "mqtts://[::1]:8884"},
		{"wss://a:443/mqtt?x=1", "b:444", "wss://b:444/mqtt?x=1"},
		{"mqtt://a:1883", "mqtts://b", "mqtts://b:8883"},
		{"mqtt://a:1883", "mqtt://b ws://c", "mqtt://b:1883 ws://c:80"},
		{"mqtts://a:8883", "mqtt://b ws://b tcp://b wss://b", "wss://b:443"}, // never unencrypted
		{"mqtt://a:1883", "unix:///etc/x", ""},
		{"mqtt://a:1883", "bücher.example", "mqtt://b%C3%BCcher.example:1883"},
		{"mqtt://a:1883", "mqtt://b%C3%BCcher.example", "mqtt://b%C3%BCcher.example:1883"},
		{"mqtt://a:1883", "\xd5 a\xff.b \u200bc mqtt://%D5 mqtt://%C3%BC%2F mqtt://%C3%BC%20 mqtt://%41", ""},
		{"unix:///run/mqtt", "b", ""},
		{"mqtt://a:1883", "", ""},
		{"mqtt://a:1883", "b/c b?c b#c u@b mqtt://u:p@b : b: :1 [ ] 1:2:3 b:port b:99999999 \x00 %zz", ""},
	} {
		from, err := url.Parse(c.from)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Trim(fmt.Sprint(References(c.reference, from)), "[]")
		if c.want == "" && len(References(c.reference, from)) > 0 || c.want != "" && fmt.Sprint(References(c.reference, from)) != "["+c.want+"]" {
			t.Errorf("%q from %s: %s, want %s", c.reference, c.from, got, c.want)
		}
	}
	from := &url.URL{Scheme: "mqtt", Host: "a:1883"}
	if n := len(References(strings.Repeat("b ", 1000), from)); n != maxReferences {
		t.Errorf("%d servers", n)
	}
}

func FuzzReferences(f *testing.F) {
	for _, s := range []string{"a", "\xd5", "bücher", "mqtt://%C3%BC", "a:1 [::1]:2", "mqtts://x", "%zz", "a\x00b", "[fe80::1%25en0]:1"} {
		f.Add(s, "mqtts://h:8883")
	}
	f.Fuzz(func(t *testing.T, s, server string) {
		from, err := ParseServer(server)
		if err != nil {
			return
		}
		for _, u := range References(s, from) {
			again, err := ParseServer(u.String())
			if err != nil || again.String() != u.String() {
				t.Errorf("%q became %q, which reads as %v (%v)", s, u, again, err)
			}
			if encrypted(from) && !encrypted(u) {
				t.Errorf("%q leads from %s to %s", s, from, u)
			}
		}
	})
}

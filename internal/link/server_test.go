package link

import (
	"net/url"
	"strings"
	"testing"
)

// acceptedServers maps accepted forms of server URLs to their parsed form.
var acceptedServers = map[string]string{
	"mqtt://h":                  "mqtt://h:1883",
	"mqtt://h/":                 "mqtt://h:1883",
	"tcp://h":                   "mqtt://h:1883",
	"MQTT://h:1":                "mqtt://h:1",
	"mqtt://h:01883":            "mqtt://h:1883",
	"mqtt://Broker_1.example.":  "mqtt://Broker_1.example.:1883",
	"mqtt://bröker.example":     "mqtt://br%C3%B6ker.example:1883",
	"mqtt://10.0.0.1":           "mqtt://10.0.0.1:1883",
	"mqtt://[::1]":              "mqtt://[::1]:1883",
	"mqtts://[2001:db8::1]:99":  "mqtts://[2001:db8::1]:99",
	"mqtt://[fe80::1%25eth0]":   "mqtt://[fe80::1%25eth0]:1883",
	"mqtts://h":                 "mqtts://h:8883",
	"ssl://h":                   "mqtts://h:8883",
	"tls://h:99":                "mqtts://h:99",
	"ws://h":                    "ws://h:80",
	"ws://h/mqtt":               "ws://h:80/mqtt",
	"ws://h/a%23b":              "ws://h:80/a%23b",
	"wss://h/mqtt?x=1":          "wss://h:443/mqtt?x=1",
	"wss://h/mqtt?user=a%40b":   "wss://h:443/mqtt?user=a%40b",
	"wss://h?x=1":               "wss://h:443?x=1",
	"unix:///run/mqtt.sock":     "unix:///run/mqtt.sock",
	"unix:/run/mqtt.sock":       "unix:///run/mqtt.sock",
	"unix:///run/my socket":     "unix:///run/my%20socket",
	"unix:///run/a%23b":         "unix:///run/a%23b",
	"unix:///run/mqtt@host":     "unix:///run/mqtt@host",
	"mqtt://xn--brker-jua.test": "mqtt://xn--brker-jua.test:1883",
}

// refusedServers lists refused forms, with a part of the error.
var refusedServers = []struct{ server, hint string }{
	{"", "is empty"},
	// Without a scheme.
	{"h", "has no scheme; write mqtt://h"},
	{"h:1883", "has no scheme; write mqtt://h:1883"},
	{"h:8883", "has no scheme; write mqtts://h:8883"},
	{"10.0.0.1:1883", "has no scheme; write mqtt://10.0.0.1:1883"},
	{"[::1]:1883", "has no scheme; write mqtt://[::1]:1883"},
	{"://h:1883", "has no scheme; write mqtt://h:1883"},
	{"//h:1883", "has no scheme; write mqtt://h:1883"},
	{"u:secret@h:1883", "has no scheme; write mqtt://host:1883"},
	{"secret@h://x", "has no scheme"},
	{"mqtt:h:1883", "no // after its scheme; write mqtt://host:1883"},
	{"mqtts:/h", "no // after its scheme; write mqtts://host:8883"},
	// Another scheme.
	{"http://h", "use ws for MQTT over WebSocket, or mqtt"},
	{"https://h", "use wss for MQTT over WebSocket, or mqtts"},
	{"http://u:secret@h", "use ws"},
	{"mqtt+ssl://h", "use mqtts"},
	{"tcps://h", "use mqtts"},
	{"quic://h", `has the scheme "quic"; use mqtt, mqtts, ws, wss or unix`},
	{"mqtt://mqtt://h", "two schemes"},
	{"mqtts://tcp://h:1883", "two schemes"},
	// Several servers in one URL.
	{"mqtt://a,b", "several hosts; list each as an entry of its own"},
	{"mqtt://a:1883,b:1883", "several hosts"},
	{"mqtt://a:1883;b:1883", "several hosts"},
	{"mqtt://a,mqtt://b", "two schemes"},
	{"mqtt://a mqtt://b", "has a space in it; list several servers as several entries"},
	{"mqtt://[::1],[::2]", "several hosts"},
	// IPv6 without brackets, and brackets without IPv6.
	{"mqtt://::1", "IPv6 address without brackets; write mqtt://[::1]:1883"},
	{"mqtt://::1:1884", "write mqtt://[::1]:1884 or mqtt://[::1:1884]:1883"},
	{"mqtts://2001:db8::1", "write mqtts://[2001:db8::1]:8883"},
	{"mqtt://fe80::1:2:3:4:5:1883:x", "several colons"},
	{"mqtt://2001:db8:1:2:3:4:5:6:1884", "write mqtt://[2001:db8:1:2:3:4:5:6]:1884"},
	{"ws://::1/mqtt", "write ws://[::1]:80"},
	{"mqtt://h:1883:1883", "several colons"},
	{"mqtt://[::1", "a [ without a ]"},
	{"mqtt://[::1]1883", "between ] and the port"},
	{"mqtt://[h]:1883", "not an IPv6 address"},
	{"mqtt://[10.0.0.1]:1883", "not an IPv6 address"},
	{"mqtt://[fe80::1%eth0]:1883", "a zone as [fe80::1%25eth0]"},
	{"mqtt://[]:1883", "not an IPv6 address"},
	// A user name or password.
	{"mqtt://user:secret@h:1883", "set Connection.Username and Connection.Password instead"},
	{"mqtt://secret@h", "set Connection.Username"},
	{"mqtt://u:secret@:1883", "set Connection.Username"},
	{"mqtt://u:se#cret@h:1883", "set Connection.Username"},
	{"mqtt://u:se/cret@h:1883", "set Connection.Username"},
	{"mqtt://u:se?cret@h:1883", "set Connection.Username"},
	{"mqtt://u:1#secret@h:1883", "set Connection.Username"},
	{"wss://u:1/secret@h/mqtt", "write %40 if it is part of the path"},
	{"wss://h/mqtt?user=secret@x", "write %40"},
	{"wss://u:se%zzcret@h/mqtt", "set Connection.Username"},
	// Parts that would be ignored.
	{"mqtt://h/mqtt", "a path or query, which MQTT over TCP does not have; remove it, or use ws or wss"},
	{"mqtts://h:8883/x/y", "a path or query"},
	{"mqtt://h?token=secret", "a path or query"},
	{"mqtt://h?", "a path or query"},
	{"mqtt://h:1883/?keepalive=30", "a path or query"},
	{"mqtt://h#secret", "has a #"},
	{"mqtt://h/#", "has a #"},
	{"wss://h/mqtt#secret", "has a #"},
	{"unix:///run/a#b", "has a ? or a #"},
	{"unix:///run/a?b", "has a ? or a #"},
	// Port.
	{"mqtt://h:", "a colon and no port"},
	{"mqtt://[::1]:", "a colon and no port"},
	{"mqtt://h:0", "invalid port"},
	{"mqtt://h:-1", "invalid port"},
	{"mqtt://h:+1", "invalid port"},
	{"mqtt://h:port", "invalid port"},
	{"mqtt://h:1883x", "invalid port"},
	{"ws://[::1]:65536", "invalid port"},
	{"mqtts://h:99999999999", "invalid port"},
	{"ws://h:mqtt/mqtt", "invalid port"},
	// Host.
	{"mqtt://", "names no host"},
	{"mqtt:///", "names no host"},
	{"mqtts://:8883", "names no host"},
	{"ws:///mqtt", "names no host"},
	{"mqtt://$BROKER:1883", "the character $ in its host; check whether a variable"},
	{"mqtt://${BROKER}:1883", "the character { in it"},
	{"mqtt://<host>:1883", "the character < in it"},
	{"mqtt://h%41", "the character % in its host"},
	{"mqtt://*:1883", "the character * in its host"},
	{"mqtt://a..b", "invalid host name"},
	{"mqtt://.a", "invalid host name"},
	{"mqtt://" + strings.Repeat("a", 64), "longer than 63 bytes"},
	{"mqtt://" + strings.Repeat("a.", 130), "longer than 253"},
	{"mqtt://256.0.0.1", "looks like an IPv4 address"},
	{"mqtt://10.0.1:1883", "looks like an IPv4 address"},
	{"mqtt://10.0.0.01", "looks like an IPv4 address"},
	{"mqtt://1883", "looks like an IPv4 address"},
	// Characters left by a file or a shell.
	{" mqtt://h", "begins or ends with a space"},
	{"mqtt://h\n", "begins or ends with a space or a line break"},
	{`"mqtt://h"`, `the character " in it`},
	{"'mqtt://h'", "the character ' in it"},
	{"mqtt:\\\\h", `the character \ in it`},
	{"mqtt://h\u200b", "the invisible character U+200B"},
	{"\ufeffmqtt://h", "the invisible character U+FEFF"},
	{"mqtt://h\x00", "the invisible character U+0000"},
	{"mqtt://h\xff", "not UTF-8"},
	{"ws://h/%zz", "write %25 for a percent sign"},
	// Unix sockets.
	{"unix://", "names no socket"},
	{"unix:", "names no socket"},
	{"unix:///", "names no socket"},
	{"unix://run/mqtt.sock", "three slashes"},
	{"unix:run/mqtt.sock", "a relative path"},
	{"unix:///" + strings.Repeat("x", 107), "has a path of 108 bytes"},
	{"unix:///%zz", "write %25"},
}

func TestParseServer(t *testing.T) {
	for in, want := range acceptedServers {
		u, err := ParseServer(in)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v, want %s", in, u, err, want)
			continue
		}
		if again, err := ParseServer(u.String()); err == nil && again.String() != want || err != nil && !strings.Contains(want, "%C3") && !strings.Contains(in, "@") {
			t.Errorf("%s: read again: %v, %v", u, again, err)
		}
	}
	for _, tt := range refusedServers {
		u, err := ParseServer(tt.server)
		if err == nil || !strings.Contains(err.Error(), tt.hint) {
			t.Errorf("%s: %v, %v, want an error with %q", tt.server, u, err, tt.hint)
		} else if strings.Contains(err.Error(), "cret") {
			t.Errorf("the error for %s shows the secret: %v", tt.server, err)
		}
	}
}

func TestRedacted(t *testing.T) {
	for in, want := range map[string]string{
		"wss://h:443/mqtt?token=secret": "wss://h:443/mqtt?xxxxx",
		"wss://h:443/a%2Fb":             "wss://h:443/a%2Fb",
		"http://user:secret@h:3128":     "http://user:xxxxx@h:3128",
		"http://secret@h:3128":          "http://xxxxx@h:3128",
		"http://secret:@h:3128":         "http://xxxxx@h:3128",
		"ws://h/#secret":                "ws://h/",
		"unix:///run/mqtt.sock":         "unix:///run/mqtt.sock",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := Redacted(u); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	const list = "a:1883 wss://u:secret@b/mqtt?secret=1 c?secret u:secret@d %zz?secret"
	if got, want := RedactedText(list), "a:1883 wss://u:xxxxx@b/mqtt?xxxxx xxxxx xxxxx xxxxx"; got != want {
		t.Errorf("%s: %s, want %s", list, got, want)
	}
}

// TestParseProxy_Refuses covers the forms that ParseServer refuses too.
func TestParseProxy_Refuses(t *testing.T) {
	for in, hint := range map[string]string{
		"http://a:1,b:2":         "several hosts",
		"http://a,b":             "several hosts",
		"http://::1:3128":        "write http://[::1]:3128 or http://[::1:3128]:80",
		"socks5://fe80::1":       "write socks5://[fe80::1]:1080",
		"http://u:s#ecret@h":     "percent-encode",
		"http://u:1#secret@h:1":  "percent-encode",
		"http://u:secret@h#":     "percent-encode",
		"http://u:secret@h:":     "no port",
		"http://u:secret@$PROXY": "the character $ in its host",
		"http://h:port":          "invalid port",
	} {
		p, err := ParseProxy(in)
		if err == nil || !strings.Contains(err.Error(), hint) || strings.Contains(err.Error(), "ecret") {
			t.Errorf("%s: %v, %v, want an error with %q and without the password", in, p, err, hint)
		}
	}
	if p, err := ParseProxy("http://u:a,b;c@[fe80::1%25en0]:1"); err != nil || p.For("s:1").Host != "[fe80::1%en0]:1" {
		t.Errorf("special characters that are valid: %v, %v", p, err)
	}
}

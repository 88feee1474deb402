package link

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestProxyFromEnvironment(t *testing.T) {
	for _, tt := range []struct {
		env  []string
		want string
	}{
		{nil, ""},
		{[]string{"HTTP_PROXY", "http://p"}, ""}, // HTTP_PROXY is for requests without a tunnel
		{[]string{"HTTPS_PROXY", "http://p"}, "http://p:80"},
		{[]string{"https_proxy", "p:3128"}, "http://p:3128"},
		{[]string{"HTTPS_PROXY", "http://p", "ALL_PROXY", "socks5://q"}, "http://p:80"},
		{[]string{"ALL_PROXY", "socks5h://u:pw@q"}, "socks5h://u:pw@q:1080"},
		{[]string{"all_proxy", "https://q"}, "https://q:443"},
		{[]string{"HTTPS_PROXY", "http://p", "NO_PROXY", "x,server"}, ""},
		{[]string{"HTTPS_PROXY", "http://p", "no_proxy", "*"}, ""},
		{[]string{"HTTPS_PROXY", "http://p", "NO_PROXY", "other"}, "http://p:80"},
	} {
		p, err := fromEnvironment(env(tt.env...))
		if err != nil {
			t.Errorf("%v: %v", tt.env, err)
			continue
		}
		got := ""
		if u := p.For("server:1883"); u != nil {
			got = u.String()
		}
		if got != tt.want {
			t.Errorf("%v: %q, want %q", tt.env, got, tt.want)
		}
	}
	for _, bad := range []string{"ftp://u:secret@p", "http://u:sec/ret@p", "http://", "socks5://:secret@p"} {
		_, err := fromEnvironment(env("ALL_PROXY", bad))
		if err == nil || !strings.Contains(err.Error(), "ALL_PROXY") || strings.Contains(err.Error(), "sec") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// net/http reads the environment once per process, so only this test may use it.
func TestProxyFromEnvironment_MatchesNetHTTP(t *testing.T) {
	list := "Example.com, .below.org,*.star.net,10.1.0.0/16,192.0.2.7,192.0.2.8:1883,port.dev:8883,.sub.dev:443,2001:db8::/32,[2001:db9::1]:1883,2001:dba::1,,:80, ,a b"
	t.Setenv("HTTPS_PROXY", "http://p")
	t.Setenv("NO_PROXY", list)
	for _, name := range []string{"https_proxy", "no_proxy"} {
		t.Setenv(name, "")
	}
	local, err := ParseProxy(FromEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	for _, host := range []string{"example.com", "EXAMPLE.com", "a.example.com", "notexample.com", "example.com.org", "below.org", "a.below.org",
		"star.net", "a.star.net", "astar.net", "10.1.2.3", "10.2.2.3", "192.0.2.7", "192.0.2.8", "192.0.2.9", "port.dev", "a.port.dev", "sub.dev",
		"a.sub.dev", "[2001:db8::5]", "[2001:db9::1]", "[2001:dba::1]", "[2001:dbb::1]", "localhost", "127.0.0.1", "127.8.0.1", "[::1]",
		"[::ffff:10.1.2.3]", "localhost.example", "other"} {
		for _, port := range []string{"443", "1883", "8883", "80"} {
			hostPort := host + ":" + port
			theirs, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: hostPort}})
			if err != nil {
				t.Fatal(err)
			}
			if (local.For(hostPort) == nil) != (theirs == nil) {
				t.Errorf("%s: this package has %v, net/http's %v", hostPort, local.For(hostPort), theirs)
			}
			if theirs == nil {
				direct++
			}
		}
	}
	if direct < 40 || direct > 80 {
		t.Errorf("%d of 120 are exceptions: was the environment read before?", direct)
	}
}

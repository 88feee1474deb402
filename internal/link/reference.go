package link

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxReferences is how many servers of a Server Reference are considered.
const maxReferences = 16

// ServerReference is where a server sends a client. A URL in it may have a token, which no text shows.
type ServerReference string

func (r ServerReference) String() string   { return RedactedText(string(r)) }
func (r ServerReference) GoString() string { return strconv.Quote(r.String()) }

// MarshalText returns String, for JSON and the like.
func (r ServerReference) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// References returns the servers that a Server Reference names: host names and addresses
// with or without a port, separated by spaces (section 4.11), and complete URLs, which
// some servers send. A name has the scheme, the path and the default port of the server
// that sent it. Invalid ones are omitted, and unencrypted ones if that server is encrypted.
func References(s string, from *url.URL) []*url.URL {
	var list []*url.URL
	for _, field := range strings.Fields(s) {
		if u := reference(field, from); u != nil && len(list) < maxReferences {
			list = append(list, u)
		}
	}
	return list
}

func reference(s string, from *url.URL) *url.URL {
	if strings.Contains(s, "://") {
		u, err := ParseServer(withoutPath(s))
		if err != nil || u.User != nil || u.Scheme != "unix" && !validHost(u.Hostname()) || encrypted(from) && !encrypted(u) || u.Scheme == "unix" && from.Scheme != "unix" {
			return nil
		}
		return u
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), from.Port()
	}
	if n, err := strconv.ParseUint(port, 10, 16); from.Scheme == "unix" || err != nil || n == 0 || !validHost(host) {
		return nil
	}
	u := *from
	u.Host = net.JoinHostPort(host, port)
	return &u
}

// withoutPath returns a URL of MQTT over TCP without path and query, which mean nothing there: a server may
// send them, while those of Config.Servers are refused.
func withoutPath(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if scheme = cmp.Or(aliases[scheme], scheme); scheme == "mqtt" || scheme == "mqtts" {
		if end := strings.IndexAny(rest, "/?#"); end >= 0 && !strings.Contains(rest[end:], "@") {
			return scheme + "://" + rest[:end]
		}
	}
	return s
}

// validHost reports whether s is an address or may be a host name.
func validHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return !strings.Contains(s, "%") // a zone is valid on the server's host only
	}
	return checkHost(s) == nil
}

func encrypted(u *url.URL) bool {
	return u.Scheme == "mqtts" || u.Scheme == "wss" || u.Scheme == "unix"
}

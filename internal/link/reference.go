package link

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxReferences is the maximum number of servers of a Server Reference that are considered.
const maxReferences = 16

// ServerReference is a Server Reference of the server. A URL in it may contain a token, so no text
// form shows it.
type ServerReference string

func (r ServerReference) String() string   { return RedactedText(string(r)) }
func (r ServerReference) GoString() string { return strconv.Quote(r.String()) }

// MarshalText returns String. It is used by encoders such as JSON.
func (r ServerReference) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// References returns the servers that a Server Reference names. These are host names and addresses
// with or without a port, separated by spaces (section 4.11), and complete URLs, which some servers
// send. A name gets the scheme, the path and the default port of the server that sent it. Invalid
// entries are omitted. If that server is encrypted, unencrypted entries are omitted as well.
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

// withoutPath returns a URL of MQTT over TCP without path and query, which have no meaning there. A
// server may send them, although Config.Servers must not contain them.
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

// validHost reports whether s is an address or a valid host name.
func validHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return !strings.Contains(s, "%") // a zone is valid only on the server's own host
	}
	return checkHost(s) == nil
}

func encrypted(u *url.URL) bool {
	return u.Scheme == "mqtts" || u.Scheme == "wss" || u.Scheme == "unix"
}

package link

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxReferences is how many servers of a Server Reference are considered.
const maxReferences = 16

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
		u, err := ParseServer(s)
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

// validHost reports whether s is an address or may be a host name.
func validHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return !strings.Contains(s, "%") // a zone is valid on the server's host only
	}
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' || r > 0x7F)
	})
}

func encrypted(u *url.URL) bool {
	return u.Scheme == "mqtts" || u.Scheme == "wss" || u.Scheme == "unix"
}

package link

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// fromEnvironment reads the usual variables for proxies, in upper or lower case. All
// connections use CONNECT, so the proxy is the one for https.
func fromEnvironment(getenv func(string) string) (*Proxy, error) {
	first := func(names ...string) (name, value string) {
		for _, name = range names {
			if value = getenv(name); value != "" {
				break
			}
		}
		return name, value
	}
	name, raw := first("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
	if raw == "" {
		return nil, nil
	}
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw // the usual form
	}
	u, err := parseProxyURL(raw)
	if err != nil {
		return nil, fmt.Errorf("from the environment: %s %w", name, err)
	}
	_, list := first("NO_PROXY", "no_proxy")
	return &Proxy{url: u, except: parseExceptions(list)}, nil
}

// exceptions are the servers that are connected to without the proxy, by net/http's
// rules for NO_PROXY: a comma-separated list of addresses, networks such as
// 10.0.0.0/8, and domains; each with or without a port. A domain includes its
// subdomains; with a leading dot it is only those. * is everything. localhost and
// loopback addresses are always exceptions.
type exceptions struct {
	all      bool
	networks []netip.Prefix
	hosts    []exception
}

type exception struct {
	host string     // "" for an address; ".domain" for subdomains
	addr netip.Addr // invalid for a name
	port string     // "" for any
}

func parseExceptions(list string) *exceptions {
	e := &exceptions{}
	for entry := range strings.SplitSeq(strings.ToLower(list), ",") {
		entry = strings.TrimSpace(entry)
		if entry == "*" {
			e.all = true
			continue
		}
		if network, err := netip.ParsePrefix(entry); err == nil {
			e.networks = append(e.networks, network.Masked())
			continue
		}
		host, port, err := net.SplitHostPort(entry)
		if err != nil {
			host, port = entry, ""
		}
		if addr, err := netip.ParseAddr(host); err == nil {
			e.hosts = append(e.hosts, exception{addr: addr.Unmap(), port: port})
			continue
		}
		if host == "" {
			continue
		}
		if strings.HasPrefix(host, "*.") {
			host = host[1:]
		}
		e.hosts = append(e.hosts, exception{host: "." + strings.TrimPrefix(host, "."), port: port})
		if host[0] != '.' {
			e.hosts = append(e.hosts, exception{host: host, port: port})
		}
	}
	return e
}

// match reports whether host:port is an exception.
func (e *exceptions) match(hostPort string) bool {
	host, port, err := net.SplitHostPort(strings.ToLower(hostPort))
	if e == nil || err != nil {
		return false
	}
	addr, _ := netip.ParseAddr(host)
	addr = addr.Unmap()
	if e.all || host == "localhost" || addr.IsLoopback() {
		return true
	}
	for _, network := range e.networks {
		if network.Contains(addr.WithZone("")) {
			return true
		}
	}
	for _, x := range e.hosts {
		same := host == x.host || strings.HasPrefix(x.host, ".") && strings.HasSuffix(host, x.host)
		if addr.IsValid() {
			same = addr == x.addr
		}
		if same && (x.port == "" || x.port == port) {
			return true
		}
	}
	return false
}

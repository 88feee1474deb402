package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// fromEnvironment reads the usual proxy variables, in upper or lower case. All connections use
// CONNECT, so the proxy for https applies.
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
		raw = "http://" + raw // the usual form has no scheme
	}
	u, err := parseProxyURL(raw)
	if err != nil {
		return nil, fmt.Errorf("from the environment: %s %w", name, err)
	}
	_, list := first("NO_PROXY", "no_proxy")
	return &Proxy{url: u, except: parseExceptions(list)}, nil
}

// exception is an entry of NO_PROXY, by the rules of net/http: servers that are connected to
// directly. The list is comma-separated. It contains addresses, networks such as 10.0.0.0/8, and
// domains, each with or without a port. A domain includes its subdomains. A domain with a leading
// dot includes only the subdomains. The entry * matches everything. localhost and loopback
// addresses are always exceptions.
type exception struct {
	network netip.Prefix // network or single address; invalid for a name
	host    string       // ".domain": only subdomains
	port    string       // "": any port
}

var everything = exception{host: "*"}

func parseExceptions(list string) []exception {
	exceptions := []exception{}
	for entry := range strings.SplitSeq(strings.ToLower(list), ",") {
		x := exception{host: strings.TrimSpace(entry)}
		network, err := netip.ParsePrefix(x.host)
		if host, port, noPort := net.SplitHostPort(x.host); err != nil && noPort == nil {
			x.host, x.port = host, port
		}
		if addr, noAddr := netip.ParseAddr(x.host); noAddr == nil {
			network = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		}
		if x.network = network.Masked(); strings.HasPrefix(x.host, "*.") {
			x.host = x.host[1:]
		}
		if x.host != "" {
			exceptions = append(exceptions, x)
		}
	}
	return exceptions
}

// matches reports whether the exception applies to a server.
func (x exception) matches(host, port string, addr netip.Addr) bool {
	same := host == x.host || strings.HasSuffix(host, "."+strings.TrimPrefix(x.host, "."))
	if addr.IsValid() || x.network.IsValid() {
		same = x.network.Contains(addr.WithZone(""))
	}
	return x == everything || same && (x.port == "" || x.port == port)
}

// direct reports whether host:port is connected to without the proxy.
func (p *Proxy) direct(hostPort string) bool {
	host, port, err := net.SplitHostPort(strings.ToLower(hostPort))
	if err != nil || p.except == nil {
		return false
	}
	addr, _ := netip.ParseAddr(host)
	addr = addr.Unmap()
	return host == "localhost" || addr.IsLoopback() ||
		slices.ContainsFunc(p.except, func(x exception) bool { return x.matches(host, port, addr) })
}

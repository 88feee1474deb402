package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	stagger      = 250 * time.Millisecond // delay before the next address is tried in parallel, as RFC 8305 recommends
	maxAddresses = 16                     // maximum number of addresses per name; resolvers rotate longer lists
)

// dialTCP connects to host:port. It tries all addresses of a name. It tries the next address when
// the previous one has failed or has not answered for stagger. net.Dialer does that only between
// IPv6 and IPv4; within a family, each address may take 2 s or more.
func (d *Dialer) dialTCP(ctx context.Context, hostPort string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return dial(ctx, hostPort)
	}
	ips, err := cmp.Or(d.Resolver, net.DefaultResolver).LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, ip := range byTurns(ips) {
		addrs = append(addrs, net.JoinHostPort(ip.String(), port))
	}
	return race(ctx, addrs[:min(len(addrs), maxAddresses)], dial)
}

// byTurns alternates between the address families and keeps the resolver's order within each
// family.
func byTurns(ips []net.IPAddr) []net.IPAddr {
	var families [2][]net.IPAddr // the family of the first address, and the other one
	for _, ip := range ips {
		i := 0
		if (ip.IP.To4() == nil) != (ips[0].IP.To4() == nil) {
			i = 1
		}
		families[i] = append(families[i], ip)
	}
	list := make([]net.IPAddr, 0, len(ips))
	for i := range ips {
		for _, family := range families {
			if i < len(family) {
				list = append(list, family[i])
			}
		}
	}
	return list
}

// race returns the first connection. It closes all other connections. Its goroutines have ended
// when it returns, if dial obeys its context.
func race(ctx context.Context, addrs []string, dial func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	if len(addrs) == 0 {
		return nil, errors.New("the name has no address; check it")
	}
	type result struct {
		c   net.Conn
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	results, running := make(chan result), 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			if late := <-results; late.err == nil {
				_ = late.c.Close()
			}
		}
	}()
	turn := time.NewTimer(0)
	defer turn.Stop()
	var failed error
	for running > 0 || len(addrs) > 0 {
		next := turn.C
		if len(addrs) == 0 {
			next = nil
		}
		select {
		case <-next:
			addr := addrs[0]
			addrs = addrs[1:]
			running++
			go func() {
				c, err := dial(ctx, addr)
				results <- result{c, err}
			}()
			turn.Reset(stagger)
		case r := <-results:
			running--
			if r.err == nil {
				return r.c, nil
			}
			if failed == nil {
				failed = r.err
			} else {
				failed = fmt.Errorf("%w; %w", failed, r.err)
			}
			if ctx.Err() != nil {
				return nil, failed
			}
			turn.Reset(0)
		}
	}
	return nil, failed
}

package client_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/mooring-mqtt/mooring/client"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// nameServer answers for broker.test.
type nameServer struct {
	gone  atomic.Bool
	addrs [][4]byte // of broker.test; it has no IPv6
}

// resolver asks it.
func (n *nameServer) resolver(t testing.TB) *net.Resolver {
	l := listenOn(t, "tcp", "127.0.0.1:0")
	served(t, l, n.serve)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if n.gone.Load() {
			return nil, errors.New("the network is unreachable")
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}}
}

func (n *nameServer) serve(c net.Conn) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
			return
		}
		q := m.Questions[0]
		answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
		if q.Name.String() != "broker.test." {
			answer.RCode = dnsmessage.RCodeNameError
		} else if q.Type == dnsmessage.TypeA {
			for _, a := range n.addrs {
				answer.Answers = append(answer.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: a}})
			}
		}
		b, err := answer.AppendPack(make([]byte, 2))
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(b, uint16(len(b)-2))
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func TestDial_DNSFailsAndRecovers(t *testing.T) {
	b := mqtttest.Start(t)
	dns := nameServer{addrs: [][4]byte{{127, 0, 0, 1}}}
	a := make(attempts, 1000)
	cfg := overSockets("mqtt://broker.test:"+portOf(t, b.URL()), a)
	resolveWith(t, &cfg, dns.resolver(t))
	dns.gone.Store(true)
	c := mustStart(t, cfg)
	d := publish(t, c, "t", "x", client.AtLeastOnce)
	if err := fails[*net.DNSError](t, a); err.Name != "broker.test" {
		t.Errorf("got %v", err)
	}
	dns.gone.Store(false)
	a.connects(t)
	wantState(t, d, client.Acked)
	dns.gone.Store(true)
	b.Cut(c.ClientID())
	fails[*net.DNSError](t, a)
	dns.gone.Store(false)
	a.connects(t)
}

// resolveWith has the built-in dialer look names up with r.
func resolveWith(t testing.TB, cfg *client.Config, r *net.Resolver) {
	t.Helper()
	d, err := cfg.Dialer()
	must(t, err)
	d.Resolver = r
	cfg.TLS, cfg.Connection.TLSFiles, cfg.Connection.Proxy, cfg.Connection.Dial = nil, nil, "", d.Dial
}

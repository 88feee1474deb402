package client_test

import (
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// hanging makes connections to an address hang: its queue is full, so Linux drops
// what comes.
func hanging(t *testing.T, ip [4]byte, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: ip, Port: port}))
	must(t, syscall.Listen(fd, 0))
	addr := net.JoinHostPort(net.IP(ip[:]).String(), strconv.Itoa(port))
	for range 20 {
		c, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("connections do not hang")
}

// The first addresses of the name swallow what is sent to them. net.Dialer would
// give the first of them all of the two seconds.
func TestDial_HangingAddressDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	b := mqtttest.Start(t)
	port, err := strconv.Atoi(portOf(t, b.URL()))
	must(t, err)
	dns := nameServer{addrs: [][4]byte{{127, 0, 0, 2}, {127, 0, 0, 3}, {127, 0, 0, 1}}}
	for _, ip := range dns.addrs[:2] {
		hanging(t, ip, port)
	}
	a := make(attempts, 1000)
	cfg := overSockets("mqtt://broker.test:"+strconv.Itoa(port), a)
	cfg.Connection.ConnectTimeout = 2 * time.Second
	resolveWith(t, &cfg, dns.resolver(t))
	mustStart(t, cfg)
	a.connects(t)
}

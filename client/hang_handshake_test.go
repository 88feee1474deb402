package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// silentServer accepts connections, reads what it gets and answers nothing.
func silentServer(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				_, _ = io.Copy(io.Discard, nc)
			}()
		}
	}()
	return l.Addr().String()
}

// A server or a proxy that never answers a handshake: each wait ends within its bound, and the error says that the
// client was connecting.
func TestHang_Handshakes(t *testing.T) {
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss", "http proxy", "socks5 proxy"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			silent := silentServer(t)
			cfg := client.Config{ClientID: "c", Servers: []string{scheme + "://" + silent}}
			if kind, ok := strings.CutSuffix(scheme, " proxy"); ok {
				cfg.Servers, cfg.Connection.Proxy = []string{"mqtt://broker.example.com:1883"}, kind+"://"+silent
			}
			cfg.Connection.CloseTimeout = 500 * time.Millisecond
			c := mustStart(t, cfg)
			d := publish(t, c, "t", "x", client.AtLeastOnce)
			for _, wait := range []struct {
				name string
				call func(context.Context) error
			}{
				{"AwaitConnection", c.AwaitConnection},
				{"Delivery.Wait", func(ctx context.Context) error { _, err := d.Wait(ctx); return err }},
				{"Drain", c.Drain},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				began := time.Now()
				err := wait.call(ctx)
				if took := time.Since(began); took > 2*time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v after %v", wait.name, err, took)
				}
				cancel()
			}
			began := time.Now()
			_ = c.Close()
			if took := time.Since(began); took > 1500*time.Millisecond {
				t.Errorf("Close took %v", took)
			}
			select {
			case <-c.Done():
			case <-time.After(5 * time.Second):
				t.Error("the client has not ended")
			}
		})
	}
}

package client_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Errors of calls that need a connection include the reason for its absence.
func TestErrors_NameTheLastConnectionError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig("c", &recorder{}, nil)
		cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		c := mustStart(t, cfg)
		time.Sleep(time.Second)
		within := func(f func(ctx context.Context) error) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return f(ctx)
		}
		_, atOnce := c.Publish(t.Context(), client.Message{Topic: "t"})
		publish(t, c, "t", "x", client.AtLeastOnce)
		for what, err := range map[string]error{
			"Publish":         atOnce,
			"AwaitConnection": within(c.AwaitConnection),
			"Drain":           within(c.Drain),
		} {
			if err == nil || !strings.Contains(err.Error(), "not connected: ") || !strings.Contains(err.Error(), "dial tcp") || !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v", what, err)
			}
			if what != "Publish" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s is not a DeadlineExceeded: %v", what, err)
			}
		}
		if !errors.Is(atOnce, client.ErrNotConnected) || !reliability.SafeToRetry(atOnce) {
			t.Errorf("Publish: %v", atOnce)
		}
	})
}

func TestTimeoutError_IsDeadlineExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := reliability.Await(t.Context(), time.Second, make(chan struct{}))
		if !errors.As(err, new(*reliability.TimeoutError)) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

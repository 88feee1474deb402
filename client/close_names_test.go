package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// Client is a type of the application whose methods have the same names as those of client.Client.
type Client struct{ *client.Client }

//go:noinline
func (c *Client) event() error { return c.Close() }

// Close recognizes callbacks by function names of this package only. Otherwise Close would not wait
// in this application, and the process could exit before DISCONNECT is sent.
func TestClose_IgnoresMethodsWithTheSameName(t *testing.T) {
	b := exampleBroker()
	defer b.Close()
	inner, err := client.New(exampleConfig(b, "c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := inner.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := inner.AwaitConnection(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := (&Client{inner}).event(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-inner.Done():
	default:
		t.Error("Close returned, and the client has not ended")
	}
}

// Close of one client waits if it is called in a handler of another client: its folder can be
// opened again after Close. Close of the handler's own client returns at once.
func TestClose_InAHandlerOfAnotherClientWaits(t *testing.T) {
	b := exampleBroker()
	defer b.Close()
	cfg := exampleConfig(b, "other")
	cfg.Dir = t.TempDir()
	other, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(exampleConfig(b, "c"))
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	handled := make(chan error, 1)
	h := client.HandlerFunc(func(context.Context, *client.Message) error {
		once.Do(func() {
			handled <- func() error {
				if err := other.Close(); err != nil {
					return err
				}
				select {
				case <-other.Done():
				default:
					t.Error("Close returned while the other client was running")
				}
				again, err := client.New(cfg)
				if err != nil {
					return err
				}
				if err := again.Close(); err != nil {
					return err
				}
				return c.Close()
			}()
		})
		return nil
	})
	if _, err := c.Subscribe(t.Context(), "t", client.AtLeastOnce, h); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-handled:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the handler did not return from Close")
	}
	<-c.Done()
}

package client_test

import (
	"context"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
)

// Client is a type of the program's whose methods have the names of ours.
type Client struct{ *client.Client }

//go:noinline
func (c *Client) event() error { return c.Close() }

// Close knows the functions that it must not wait in by their names, and nobody
// else's: a program that exits behind Close would not have said goodbye.
func TestCloseWaitsInAProgramWithNamesLikeOurs(t *testing.T) {
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

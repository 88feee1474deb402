package sqlitestore_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/examples/sqlitestore"
	"github.com/mooring-mqtt/mooring/persistence"
)

// A client publishes while it is offline, ends, and another process sends the
// message from the same database.
func Example() {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ctx := context.Background()
	broker, err := mqtttest.New(mqtttest.Options{NoTCP: true})
	must(err)
	defer broker.Close()
	dir, err := os.MkdirTemp("", "sqlitestore")
	must(err)
	defer os.RemoveAll(dir)
	open := func() (*client.Client, *sqlitestore.Store) {
		store, err := sqlitestore.Open(filepath.Join(dir, "outbox.db"), persistence.Limits{MaxMessages: 100_000})
		must(err)
		c, err := client.New(client.Config{
			Servers:    []string{"mqtt://broker"},
			ClientID:   "pump-7",
			Connection: client.ConnectionConfig{Dial: func(context.Context, *url.URL) (net.Conn, error) { return broker.Dial(), nil }},
			Store:      client.StoreConfig{Custom: store},
		})
		must(err)
		return c, store
	}

	c, store := open()
	_, err = c.Publish(ctx, client.Message{Topic: "pump/7/rpm", Payload: []byte("1450"), QoS: client.AtLeastOnce})
	must(err)
	fmt.Println("stored:", store.Stats().Pending)
	must(c.Close())
	must(store.Close()) // the client does not close a custom store

	c, store = open()
	must(c.Start(ctx))
	must(c.Drain(ctx)) // waits for the acknowledgements, and closes the client
	fmt.Println("acknowledged:", store.Stats().Acked, "pending:", store.Stats().Pending)
	must(store.Close())
	// Output:
	// stored: 1
	// acknowledged: 1 pending: 0
}

package client

import (
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/persistence"
)

// The folder of a device was lost, and the first process with the new one never
// got a connection. The server may still hold the old session, with identifiers
// half received that would swallow our first messages: until a session was
// begun under this store, a new one is asked for.
func TestAStoreWithoutASessionAsksForANewOne(t *testing.T) {
	store := persistence.NewMemory(persistence.Options{}).Reopen() // boot 2, never connected
	connect := func(s persistence.Store) *paho.Connect {
		c, err := New(Config{Servers: []string{"mqtt://localhost"}, ClientID: "c", Store: s})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cp, err := c.connectPacket(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return cp
	}
	if !connect(store).CleanStart {
		t.Error("Clean Start is 0 although the store knows no session")
	}
	if err := store.ResetSession(); err != nil {
		t.Fatal(err)
	}
	if connect(store.Reopen()).CleanStart {
		t.Error("Clean Start is 1 although the store knows a session")
	}
}

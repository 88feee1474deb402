package persistencetest_test

import (
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/persistencetest"
)

// TestStore is what the test of a store of one's own looks like.
func TestStore(t *testing.T) {
	persistencetest.Run(t, func(t *testing.T, o persistence.Options) (persistence.Store, func() persistence.Store) {
		store := persistence.NewMemory(o)
		return store, func() persistence.Store {
			store = store.Reopen()
			return store
		}
	})
}

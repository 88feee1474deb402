package persistencetest_test

import (
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/persistencetest"
)

// TestStore shows how to test a custom store.
func TestStore(t *testing.T) {
	persistencetest.Run(t, func(t *testing.T, o persistence.Options) (persistence.Store, func() persistence.Store) {
		store := persistence.NewMemory(o)
		return store, func() persistence.Store {
			store = store.Reopen()
			return store
		}
	})
}

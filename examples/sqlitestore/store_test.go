package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/mooring-mqtt/mooring/examples/sqlitestore"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/persistencetest"
)

func TestStore(t *testing.T) {
	persistencetest.Run(t, func(t *testing.T, o persistence.Options) (persistence.Store, func() persistence.Store) {
		path := filepath.Join(t.TempDir(), "outbox.db")
		open := func() *sqlitestore.Store {
			s, err := sqlitestore.Open(path, o.Limits)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		store := open()
		t.Cleanup(func() { _ = store.Close() })
		return store, func() persistence.Store {
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			store = open()
			return store
		}
	})
}

package persistence_test

import (
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/persistencetest"
)

func TestMemory(t *testing.T) {
	persistencetest.Run(t, func(t *testing.T, o persistence.Options) (persistence.Store, func() persistence.Store) {
		m := persistence.NewMemory(o)
		return m, func() persistence.Store {
			m = m.Reopen()
			return m
		}
	})
}

func TestLog(t *testing.T) {
	for name, policy := range map[string]persistence.SyncPolicy{
		"EveryCommit": persistence.SyncEveryCommit, "Interval": persistence.SyncInterval, "Never": persistence.SyncNever,
	} {
		t.Run(name, func(t *testing.T) {
			persistencetest.Run(t, func(t *testing.T, o persistence.Options) (persistence.Store, func() persistence.Store) {
				o.Sync = policy
				dir := t.TempDir()
				var l *persistence.Log
				open := func() persistence.Store {
					var err error
					if l, err = persistence.Open(dir, o); err != nil {
						t.Fatal(err)
					}
					return l
				}
				open()
				t.Cleanup(func() { l.Close() })
				return l, func() persistence.Store {
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					return open()
				}
			})
		})
	}
}

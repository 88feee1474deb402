// Package persistencetest is the conformance test suite for implementations of persistence.Store. A
// store conforms if [Run] reports no error. persistence.Log and persistence.Memory conform. The
// suite is a separate package, so that an application that uses a store does not link package
// testing.
//
//	func open(t *testing.T, o persistence.Options) (persistence.Store, func() persistence.Store) {
//		path := filepath.Join(t.TempDir(), "store")
//		s := mystore.Open(path, o.Limits)
//		return s, func() persistence.Store { // reopen
//			s.Close()
//			s = mystore.Open(path, o.Limits)
//			return s
//		}
//	}
//
//	func TestStore(t *testing.T) { persistencetest.Run(t, open) }
package persistencetest

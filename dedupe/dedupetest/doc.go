// Package dedupetest is the conformance test suite for implementations of [dedupe.Cache]. The types
// Memory and File of package dedupe pass it. Use it to test your own cache, for example one on a
// database:
//
//	func TestConformance(t *testing.T) {
//		dedupetest.Run(t, dedupetest.Harness{
//			New: func(t *testing.T, o dedupe.Options) dedupe.Cache {
//				return mycache.New(newDatabase(t), o)
//			},
//		})
//	}
package dedupetest

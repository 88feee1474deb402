// Package dedupetest is the conformance test suite of [dedupe.Cache]. Memory and File of package
// dedupe conform. Use it to test a cache on a database:
//
//	func TestConformance(t *testing.T) {
//		dedupetest.Run(t, dedupetest.Harness{
//			New: func(t *testing.T, o dedupe.Options) dedupe.Cache {
//				return mycache.New(newDatabase(t), o)
//			},
//		})
//	}
package dedupetest

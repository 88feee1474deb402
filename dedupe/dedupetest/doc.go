// Package dedupetest is the conformance suite of package dedupe: what every
// [dedupe.Cache] has to do. An adapter proves itself with
//
//	func TestConformance(t *testing.T) {
//		dedupetest.Run(t, dedupetest.Harness{New: ...})
//	}
package dedupetest

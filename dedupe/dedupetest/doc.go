// Package dedupetest is the conformance suite of package dedupe. Every
// [dedupe.Cache] passes it:
//
//	func TestConformance(t *testing.T) {
//		dedupetest.Run(t, dedupetest.Harness{New: ...})
//	}
package dedupetest

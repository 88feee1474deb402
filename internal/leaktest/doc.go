// Package leaktest fails a test run that leaves goroutines behind. A package
// whose tests start goroutines hands its TestMain over:
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
package leaktest

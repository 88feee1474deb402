// Package leaktest fails a test run that leaves goroutines running. A package whose tests start
// goroutines calls it in TestMain:
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
package leaktest

// Package metrics reads what this machine knows about itself: on Linux load,
// CPU time per core, memory, disk and network counters from /proc, elsewhere
// what the Go runtime measures. The examples publish it as a device's readings.
package metrics

// Reading is one number, as it was read.
type Reading struct {
	Name  string  // such as "cpu/0/user_seconds"; fits below a topic
	Value float64 // in the unit that Name ends with, or a plain count
}

// Source is a group of readings that are taken together. Read is not safe for
// concurrent use.
type Source struct {
	Name string // a topic level, such as "cpu"
	Read func() ([]Reading, error)
}

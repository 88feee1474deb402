// Package metrics reads metrics of this machine. On Linux, these are load, CPU time per core,
// memory, disk and network counters from /proc. On other systems, they are the metrics of the Go
// runtime. The examples publish them as the readings of a device.
package metrics

// Reading is one measured number.
type Reading struct {
	Name  string  // such as "cpu/0/user_seconds"; valid as part of a topic name
	Value float64 // in the unit at the end of Name, or a plain count
}

// Source is a group of readings that are read together. Read is not safe for concurrent use.
type Source struct {
	Name string // a topic level, such as "cpu"
	Read func() ([]Reading, error)
}

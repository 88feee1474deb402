//go:build race

package client

// The race detector follows 8,128 goroutines at a time and no more.
const (
	fleetSize     = 2000
	realFleetSize = 200
)

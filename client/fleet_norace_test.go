//go:build !race

package client

// How many clients come back at once: as decisions alone, and as real ones. 10,000 of
// those pass too, and take 1.6 GiB.
const (
	fleetSize     = 10_000
	realFleetSize = 2000
)

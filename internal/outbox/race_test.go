//go:build race

package outbox_test

// The race detector has seen all there is to see long before, and makes a history ten times as long.
const modelSeeds = 40

//go:build race

package outbox_test

// The race detector finds nothing new in further histories, and makes each one ten times as slow.
const modelSeeds = 40

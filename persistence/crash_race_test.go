//go:build race

package persistence

// The race detector has seen all there is to see long before.
const defaultCrashStates = 4_000

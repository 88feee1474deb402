//go:build race

package persistence

// With the race detector, fewer states suffice.
const defaultCrashStates = 4_000

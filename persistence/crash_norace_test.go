//go:build !race

package persistence

const defaultCrashStates = 20_000

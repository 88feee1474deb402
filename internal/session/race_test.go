//go:build race

package session

// A history has no goroutines.
const defaultReuseHistories = 100

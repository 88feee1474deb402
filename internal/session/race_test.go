//go:build race

package session

// There are no goroutines in a history.
const defaultReuseHistories = 100

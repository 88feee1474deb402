//go:build !race

package session

const defaultReuseHistories = 1000

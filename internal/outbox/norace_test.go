//go:build !race

package outbox_test

const modelSeeds = 230

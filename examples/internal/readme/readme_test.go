// Package readme checks the documents: that each Go block compiles, that the programs
// of the guides run, that links lead somewhere, and that what docs/patterns.md names
// is there.
package readme

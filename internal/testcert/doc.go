// Package testcert creates certificates for tests. Its authorities exist only in memory, and the
// test chooses name and validity.
package testcert

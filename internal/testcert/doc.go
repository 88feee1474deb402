// Package testcert makes certificates for tests: of authorities that exist in
// memory only, valid when and for what the test says.
package testcert

// Package persistencetest is the conformance suite of persistence.Store. A
// store passes it when [Run] reports no error; persistence.Log and
// persistence.Memory do. It has its own package so that a program that uses a
// store does not link the testing package.
package persistencetest

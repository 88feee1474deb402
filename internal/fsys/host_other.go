//go:build !linux

package fsys

// Host returns an unknown host.
func (osFS) Host() Host { return Host{} }

// Identity returns 0: the identity is unknown.
func (osFile) Identity() uint64 { return 0 }

//go:build !linux

package ostest

import "testing"

func mount(t testing.TB) string {
	t.Skip("this test mounts a file system only on Linux")
	return ""
}

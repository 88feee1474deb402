package ostest

import (
	"os"
	"testing"
)

// Missing skips a test, because the machine lacks what the test needs. If the environment variable
// is 1, the test fails instead.
func Missing(t testing.TB, variable, need string) {
	t.Helper()
	if os.Getenv(variable) == "1" {
		t.Fatalf("%s is 1, but the machine lacks what this test needs: %s", variable, need)
	}
	t.Skipf("this test needs %s; set %s=1 to make this a failure", need, variable)
}

// MissingIdentity skips a test that copies or replaces files, because the file system of the
// temporary folder gives files no identity. With MOORING_REQUIRE_IDENTITY=1 it fails the test.
func MissingIdentity(t testing.TB) {
	t.Helper()
	Missing(t, "MOORING_REQUIRE_IDENTITY", "a file system that identifies files; set TMPDIR to a folder on ext4, xfs or tmpfs")
}

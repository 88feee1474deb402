package ostest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// InChild runs the test in a child process of its own: other tests do not feel the limits that it
// sets, and their processor time is not measured. It returns the folder for the test and true in the child, and false in the parent, when
// the child has passed.
func InChild(t *testing.T) (dir string, child bool) {
	t.Helper()
	const env = "MOORING_TEST_CHILD_DIR"
	if dir = os.Getenv(env); dir != "" {
		return dir, true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env+"="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) && !bytes.Contains(out, []byte("--- SKIP: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP: ")) {
		t.Skipf("%s", out)
	}
	t.Logf("%s", out)
	return "", false
}

// LimitFiles sets the number of files that this process may have open.
func LimitFiles(t *testing.T, n uint64) {
	t.Helper()
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	r.Cur = n
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
}

// ExhaustFiles opens files until no more can be opened.
func ExhaustFiles(t *testing.T) (files []*os.File) {
	t.Helper()
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
}

// CPUTime returns the processor time that this process has used.
func CPUTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// LeaveRoot gives dir to another user and continues as that user, because root may write
// everywhere. It does nothing if the process is not root's. Call it in the child of InChild only.
func LeaveRoot(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	for _, err := range []error{os.Chown(dir, nobody, -1), os.Chmod(filepath.Dir(dir), 0o755), syscall.Setuid(nobody)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/ostest"
	"github.com/mooring-mqtt/mooring/internal/testcert"
)

// lease makes every open of the file wait until release is called, like a file system that hangs.
// Linux limits the wait to 45 seconds.
func lease(t *testing.T, name string) (release func()) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const setLease = 1024 // F_SETLEASE
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), setLease, syscall.F_WRLCK); errno != 0 {
		ostest.Missing(t, "MOORING_REQUIRE_LEASES", fmt.Sprintf("a file system with leases, which make an opening hang (%s: %v); set TMPDIR to a folder on ext4, xfs or tmpfs", name, errno))
	}
	release = func() { _ = f.Close() }
	t.Cleanup(release)
	return release
}

// A file system that hangs makes one attempt fail. It does not delay the end of a client, and
// blocks at most one goroutine.
func TestTLSFiles_HangingFileSystem(t *testing.T) {
	ca := testcert.NewAuthority(t, "trusted")
	addr, seen := greeter(t, ca)
	f := newTLSFolder(t)
	f.fill(ca, ca.Issue(t, "client", time.Hour))
	release := lease(t, f.files.Cert)
	d := &Dialer{Files: &f.files}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		began := time.Now()
		_, err := d.Dial(ctx, server(t, addr))
		cancel()
		failed := new(TLSFileError)
		if !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	}
	release()
	if err := hello(t, d, addr); err != nil {
		t.Fatal(err)
	}
	<-seen
	if d.reading != nil {
		t.Error("a reading was left behind")
	}
}

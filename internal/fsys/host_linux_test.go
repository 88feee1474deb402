package fsys

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/ostest"
)

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func identityOf(t *testing.T, name string) uint64 {
	t.Helper()
	f, err := OpenReadOnly(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return IdentityOf(f)
}

// TestIdentity_OfAFile checks that a file keeps its identity. A copy, or a file that replaces it,
// must have another identity, even with the same inode number.
func TestIdentity_OfAFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	put(t, name, "text")
	id := identityOf(t, name)
	if id == 0 {
		ostest.MissingIdentity(t)
	}
	put(t, name, "more text")
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name, name+".renamed"); err != nil {
		t.Fatal(err)
	}
	if got := identityOf(t, name+".renamed"); got != id {
		t.Errorf("identity %d, it was %d", got, id)
	}
	copied, err := os.ReadFile(name + ".renamed")
	if err != nil {
		t.Fatal(err)
	}
	put(t, name, string(copied))
	if got := identityOf(t, name); got == 0 || got >= MaxIdentity || got == id {
		t.Errorf("the copy has identity %d, the original %d", got, id)
	}
	// The inode number of a removed file is reused. Birth times have the resolution of the system
	// clock, which is a few milliseconds.
	if err := os.Remove(name + ".renamed"); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 30*time.Millisecond; {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		put(t, name, "text")
	}
	if got := identityOf(t, name); got == id {
		t.Errorf("a new file has the identity of a removed one, %d", id)
	}
}

func TestReadHost(t *testing.T) {
	const id1, id2 = "0123456789abcdef0123456789abcdef\n", "fedcba9876543210fedcba9876543210\n"
	at := func(files map[string]string) Host {
		root := t.TempDir() + "/"
		for name, text := range files {
			put(t, root+name, text)
		}
		return readHost(root)
	}
	const boot, machine, serial = "proc/sys/kernel/random/boot_id", "etc/machine-id", "proc/device-tree/serial-number"
	if h := at(nil); h != (Host{}) {
		t.Errorf("without files: %+v", h)
	}
	if h := at(map[string]string{boot: "\n", machine: "uninitialized\n", serial: "0000000000000000\x00"}); h != (Host{}) {
		t.Errorf("without values: %+v", h)
	}
	one, same, two := at(map[string]string{boot: "a"}), at(map[string]string{boot: "a\n"}), at(map[string]string{boot: "b"})
	if one.Boot == 0 || one != same || one.Boot == two.Boot || one.Boot >= MaxIdentity {
		t.Errorf("boots %+v, %+v, %+v", one, same, two)
	}
	one, two = at(map[string]string{machine: id1}), at(map[string]string{machine: id2})
	if one == two {
		t.Errorf("machines %+v, %+v", one, two)
	}
	// Another system is installed on the same board.
	one, same, two = at(map[string]string{machine: id1, serial: "10000000abcd1234\x00"}), at(map[string]string{machine: id2, serial: "10000000abcd1234\x00"}), at(map[string]string{machine: id1, serial: "10000000abcd1235\x00"})
	if one.Machine == 0 || one != same || one.Machine == two.Machine {
		t.Errorf("boards %+v, %+v, %+v", one, same, two)
	}
	if h := HostOf(OS); h.Boot == 0 || h.Boot != readHost("/").Boot {
		t.Errorf("this host is %+v", h)
	}
}

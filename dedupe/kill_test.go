package dedupe

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// TestMain also runs the process that TestFile_Kill kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("DEDUPE_TEST_VICTIM"); path != "" {
		victim(path)
	}
	os.Exit(m.Run())
}

// victim commits keys until it is killed, and prints each one.
func victim(path string) {
	f, err := OpenFile(path, Options{Sync: SyncNever})
	for i := 0; err == nil; i++ {
		key := fmt.Sprint(i)
		c, _, _ := f.Begin(context.Background(), key, owner)
		if err = f.Commit(context.Background(), c); err == nil {
			fmt.Println(key)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// A process that is killed loses no commit, even without fsync, and its lock is
// released.
func TestFile_Kill(t *testing.T) {
	path := testPath(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DEDUPE_TEST_VICTIM="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last string
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		last = lines.Text()
		if n == 2000 {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	var committed int
	if _, err := fmt.Sscan(last, &committed); err != nil || committed < 2000 {
		t.Fatalf("the victim printed %q", last)
	}
	f := openOn(t, path, fsys.OS, Options{})
	for i := range committed + 1 {
		want(t, f, fmt.Sprint(i), Duplicate)
	}
}

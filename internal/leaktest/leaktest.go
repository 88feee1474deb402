package leaktest

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long goroutines get to end: paho.golang and net/http end
// some of theirs after the call that stopped them has returned.
const patience = 5 * time.Second

// ours marks the goroutines that count: those that run, or were started by,
// code of this module or of the client library that it drives.
var ours = []string{"github.com/mooring-mqtt/mooring/", "github.com/eclipse/paho.golang/"}

// Main runs the tests of a package and exits, with status 1 if they pass but
// leave goroutines.
func Main(m *testing.M) { os.Exit(run(m.Run, os.Stderr, patience)) }

func run(tests func() int, out io.Writer, patience time.Duration) int {
	code := tests()
	if code != 0 {
		return code
	}
	if left := Wait(patience); len(left) > 0 {
		fmt.Fprintf(out, "leaktest: %d goroutines are left:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		return 1
	}
	return code
}

// Wait returns as soon as no goroutine of ours but the caller's is left, or
// the stacks of those that are left when patience ends.
func Wait(patience time.Duration) (left []string) {
	end := time.Now().Add(patience)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if left = running(); len(left) == 0 || time.Now().After(end) {
			return left
		}
		time.Sleep(pause)
	}
}

// running is the stacks of all goroutines of ours but the caller's, which the
// runtime lists first.
func running() (stacks []string) {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i > 0 && isOurs(stack) {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// isOurs leaves out the goroutine that runs the tests, which waits for them
// inside Main.
func isOurs(stack string) bool {
	if strings.Contains(stack, "testing.(*M).Run") {
		return false
	}
	for _, prefix := range ours {
		if strings.Contains(stack, prefix) {
			return true
		}
	}
	return false
}

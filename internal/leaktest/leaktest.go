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

// timeout is how long goroutines may take to end. Some goroutines of paho.golang and net/http end
// after the call that stopped them has returned.
const timeout = 5 * time.Second

// modules selects the goroutines that count: those that run code of this module or of the client
// library below it, or were started by such code.
var modules = []string{"github.com/mooring-mqtt/mooring/", "github.com/eclipse/paho.golang/"}

// Main runs the tests of a package and exits. The status is 1 if the tests pass but leave
// goroutines running.
func Main(m *testing.M) { os.Exit(run(m.Run, os.Stderr, timeout)) }

func run(tests func() int, out io.Writer, timeout time.Duration) int {
	code := tests()
	if code != 0 {
		return code
	}
	if left := Wait(timeout); len(left) > 0 {
		fmt.Fprintf(out, "leaktest: %d goroutines are left:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		return 1
	}
	return code
}

// Wait returns when no matching goroutine except the caller's is left. After timeout it returns the
// stacks of the remaining goroutines.
func Wait(timeout time.Duration) (left []string) {
	end := time.Now().Add(timeout)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if left = running(); len(left) == 0 || time.Now().After(end) {
			return left
		}
		time.Sleep(pause)
	}
}

// running returns the stacks of all matching goroutines except the caller's, which the runtime
// lists first.
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
		if i > 0 && matches(stack) {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// matches reports whether a stack belongs to modules. It excludes the goroutine that runs the
// tests, which waits for them in Main.
func matches(stack string) bool {
	if strings.Contains(stack, "testing.(*M).Run") {
		return false
	}
	for _, prefix := range modules {
		if strings.Contains(stack, prefix) {
			return true
		}
	}
	return false
}

package leaktest_test

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
)

func ExampleWait() {
	done := make(chan struct{})
	go func() { <-done }()
	fmt.Println("while it runs:", len(leaktest.Wait(time.Millisecond)))
	close(done)
	fmt.Println("after:", len(leaktest.Wait(time.Second)))
	// Output:
	// while it runs: 1
	// after: 0
}

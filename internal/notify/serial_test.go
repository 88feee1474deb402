package notify_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/notify"
)

func TestSerial_CallsInOrderAndWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := notify.Serial[func()]{Handle: func(f func()) { f() }}
		var got []int
		release := make(chan struct{})
		for round := range 2 {
			s.Do(func() { <-release })
			for i := range 3 {
				s.Do(func() { got = append(got, 10*round+i) })
			}
			synctest.Wait()
			if len(got) != 3*round {
				t.Fatalf("%v before the first function has returned", got)
			}
			release <- struct{}{}
			synctest.Wait()
		}
		if want := []int{0, 1, 2, 10, 11, 12}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

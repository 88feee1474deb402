package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// playAll plays the cases on a broker, all at the same time, and judges them.
func playAll(ctx context.Context, list []*scenario, b *broker) []verdict {
	verdicts := make([]verdict, len(list))
	var all sync.WaitGroup
	for i, c := range list {
		all.Go(func() { verdicts[i] = judge(c, b, play(ctx, c, b, nil)) })
	}
	all.Wait()
	return verdicts
}

// playOnAll plays the cases on all brokers at the same time. A broker that is
// nil is not there.
func playOnAll(ctx context.Context, list []*scenario, brokers []*broker) [][]verdict {
	verdicts := make([][]verdict, len(brokers))
	var all sync.WaitGroup
	for i, b := range brokers {
		if b != nil {
			all.Go(func() { verdicts[i] = playAll(ctx, list, b) })
		}
	}
	all.Wait()
	return verdicts
}

// explain plays one case on a broker and says what happens as it happens. It
// reports whether the program may succeed.
func explain(ctx context.Context, w io.Writer, c *scenario, b *broker) bool {
	fmt.Fprintf(w, "On %s:\n", b.name)
	begin := time.Now()
	var mu sync.Mutex
	tell := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "  %5.2f s  %s\n", time.Since(begin).Seconds(), what)
	}
	v := judge(c, b, play(ctx, c, b, tell))
	mu.Lock()
	defer mu.Unlock()
	fmt.Fprintf(w, "  expected: %s\n  came:     %s\n", c.expectation(), c.seen(v.outcome))
	switch {
	case len(v.wrong) > 0:
		fmt.Fprintf(w, "  not as MQTT 5 says: %s\n", strings.Join(v.wrong, "; "))
	case len(v.known) > 0:
		fmt.Fprintf(w, "  a known departure of %s: %s\n", mosquittoTested, strings.Join(v.known, "; "))
	default:
		fmt.Fprintln(w, "  right")
	}
	if len(v.mended) > 0 {
		fmt.Fprintf(w, "  a known departure of %s that this one does not have: %s\n", mosquittoTested, strings.Join(v.mended, "; "))
	}
	fmt.Fprintln(w)
	return !v.failed(b)
}

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// playAll runs the cases with a broker, all at the same time, and judges them.
func playAll(ctx context.Context, list []*scenario, b *broker) []verdict {
	verdicts := make([]verdict, len(list))
	var all sync.WaitGroup
	for i, c := range list {
		all.Go(func() { verdicts[i] = judge(c, b, play(ctx, c, b, nil)) })
	}
	all.Wait()
	return verdicts
}

// playOnAll runs the cases with all brokers at the same time. It skips brokers that are nil.
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

// explain runs one case with a broker and prints its steps. It returns false if the result is a
// failure.
func explain(ctx context.Context, w io.Writer, c *scenario, b *broker) bool {
	fmt.Fprintf(w, "On %s:\n", b.name)
	begin := time.Now()
	var mu sync.Mutex
	printStep := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "  %5.2f s  %s\n", time.Since(begin).Seconds(), what)
	}
	v := judge(c, b, play(ctx, c, b, printStep))
	mu.Lock()
	defer mu.Unlock()
	fmt.Fprintf(w, "  expected: %s\n  received: %s\n", c.expectation(), c.seen(v.outcome))
	switch {
	case len(v.wrong) > 0:
		fmt.Fprintf(w, "  wrong: %s\n", strings.Join(v.wrong, "; "))
	case len(v.known) > 0:
		fmt.Fprintf(w, "  known departure of %s: %s\n", mosquittoTested, strings.Join(v.known, "; "))
	default:
		fmt.Fprintln(w, "  right")
	}
	if len(v.fixed) > 0 {
		fmt.Fprintf(w, "  this broker does not have a known departure of %s: %s\n", mosquittoTested, strings.Join(v.fixed, "; "))
	}
	fmt.Fprintln(w)
	return !v.failed(b)
}

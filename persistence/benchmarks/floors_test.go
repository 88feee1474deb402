package benchmarks

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"testing"
	"time"
)

// The floors are the least ratios of the speed of mooring to the speed of another store. The
// databases share an fsync among all waiting appends, as mooring does. A slow disk limits all
// stores, and the store that writes less is faster. On a fast disk the processor limits them, and
// bbolt is nearly as fast as mooring.
var (
	databaseFloor = rates{enqueue: 1.3, drain: 2.5, mixed: 1.3}
	fastDiskFloor = rates{enqueue: 1.1, drain: 1.5, mixed: 1.1} // of the databases
	filesFloor    = rates{enqueue: 5, drain: 100, mixed: 5}
)

const (
	backlog       = 16_000                 // messages to drain
	mixedMessages = 20_000                 // messages of the workload mixed
	listsMixed    = 300                    // the same for a store that lists its folder
	enqueueFor    = 200 * time.Millisecond // duration of one measurement of appending
	rounds        = 3                      // measurements of each store, of which the best is used
	attempts      = 5                      // failed attempts after which a ratio counts as below its floor
	timeout       = 90 * time.Second       // no attempt begins if it would end later than this
	fastDisk      = 120_000                // messages per second of the disk itself from which fastDiskFloor applies
)

// rates are the best rates of a store, in messages per second.
type rates struct{ enqueue, drain, mixed float64 }

func (r *rates) better(s rates) {
	r.enqueue, r.drain, r.mixed = max(r.enqueue, s.enqueue), max(r.drain, s.drain), max(r.mixed, s.mixed)
}

// TestFloors measures all stores in turn, so that a slow period of the machine affects all of them.
// Each floor has to be reached once, in one round or by the best rates of an attempt.
func TestFloors(t *testing.T) {
	if testing.Short() {
		t.Skip("measures for a minute and a half at most, on an idle machine: run it without -short")
	}
	begin := time.Now()
	files := fullFileQueue(t)
	var missed map[string]string // the ratios below their floor in every attempt, with the first value
	judge := func(all []rates, disk float64) {
		now := below(all, disk)
		if missed == nil {
			missed = now
		}
		maps.DeleteFunc(missed, func(what, _ string) bool { return now[what] == "" })
	}
	for attempt := range attempts {
		// The first attempt is always made. It shows how long an attempt takes.
		if spent := time.Since(begin); attempt > 0 && spent+spent/time.Duration(attempt) > timeout {
			break
		}
		best, disk := make([]rates, len(contestants)), 0.0
		for range rounds {
			rate, err := ceiling(t.TempDir(), enqueueFor)
			if err != nil {
				t.Fatal(err)
			}
			disk = max(disk, rate)
			round := make([]rates, len(contestants))
			for i, c := range contestants {
				if round[i] = measure(t, c); c.lists {
					round[i].drain = files
				}
				best[i].better(round[i])
			}
			judge(round, rate)
		}
		judge(best, disk)
		printTable(t.Output(), best, disk)
		if len(missed) == 0 {
			return
		}
	}
	for what, how := range missed {
		t.Errorf("%s was below its floor each time, at first by this: %s", what, how)
	}
}

// measure measures one store once.
func measure(t *testing.T, c contestant) (r rates) {
	t.Helper()
	n := mixedMessages
	if c.lists {
		n = listsMixed
	}
	with := func(what func(q queue) (float64, error)) float64 {
		runtime.GC() // frees the memory of the previous store
		q, remove := openQueue(t, c)
		defer remove()
		rate, err := what(q)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		return rate
	}
	r.enqueue = with(func(q queue) (float64, error) { return enqueue(q, enqueueFor) })
	r.mixed = with(func(q queue) (float64, error) { return mixed(q, n, c.unordered) })
	if !c.lists {
		r.drain = with(func(q queue) (float64, error) {
			if err := preload(q, backlog); err != nil {
				return 0, err
			}
			return drain(q, backlog, c.unordered)
		})
	}
	return r
}

// fullFileQueue estimates the rate at which the file queue of autopaho drains a backlog, without
// the minutes that a drain takes. The cost of a message grows in proportion to the number of
// messages. So a few messages are measured at each of several depths, and the messages between them
// are removed without measuring. The fastest of three is used.
func fullFileQueue(t *testing.T) float64 {
	const depths, sample = 4, 4
	dir := t.TempDir()
	q, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := produce(q, 1, upTo(backlog), nil); err != nil {
		t.Fatal(err)
	}
	var sum time.Duration
	for depth := range depths {
		// The middle of each part of the backlog represents the part.
		thin(t, dir, backlog*(2*(depths-depth)-1)/(2*depths))
		fastest := time.Duration(math.MaxInt64)
		for range rounds {
			begin := time.Now()
			if n, err := q.Take(sample, func([]byte) {}); n < sample || err != nil {
				t.Fatal(n, err)
			}
			fastest = min(fastest, time.Since(begin))
		}
		sum += fastest
	}
	return depths * sample / sum.Seconds()
}

// thin removes files from a folder until this many are left.
func thin(t *testing.T, dir string, leave int) {
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[leave:] {
		if err := os.Remove(dir + string(os.PathSeparator) + name); err != nil {
			t.Fatal(err)
		}
	}
}

// below returns the ratios that are below their floors. The rate of the disk selects the floors.
func below(best []rates, disk float64) map[string]string {
	own, missed := best[0], map[string]string{}
	for i, c := range contestants[1:] {
		check := func(what string, own, theirs, floor float64) {
			if own < floor*theirs {
				missed[what+" beside "+c.name] = fmt.Sprintf("%.1f times, the floor is %g", own/theirs, floor)
			}
		}
		theirs := best[i+1]
		floor := databaseFloor
		switch {
		case c.lists:
			floor = filesFloor
		case disk >= fastDisk:
			floor = fastDiskFloor
		}
		check("enqueue", own.enqueue, theirs.enqueue, floor.enqueue)
		check("drain", own.drain, theirs.drain, floor.drain)
		check("mixed", own.mixed, theirs.mixed, floor.mixed)
	}
	return missed
}

// printTable prints the rates. Each is followed by the ratio of the rate of mooring to it.
func printTable(w io.Writer, best []rates, disk float64) {
	fmt.Fprintf(w, "%-20s%26s%26s%26s\n", "messages a second", "enqueue", "drain", "mixed")
	for i, c := range contestants {
		fmt.Fprintf(w, "%-20s", c.name)
		for _, r := range [][2]float64{
			{best[i].enqueue, best[0].enqueue}, {best[i].drain, best[0].drain}, {best[i].mixed, best[0].mixed},
		} {
			fmt.Fprintf(w, "%12.0f (%9.1f x)", r[0], r[1]/r[0])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%-20s%12.0f (%9.1f x)\n", "the disk itself", disk, best[0].enqueue/disk)
}

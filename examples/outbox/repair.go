package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// repair opens the log as the client would, and closes it. Opening a log repairs it: persistence.Open
// keeps a copy of each damaged segment, removes an unfinished write and begins a new segment.
func (t *tool) repair() (int, error) {
	before := t.in
	switch {
	case before.InUse:
		return exitFailed, fmt.Errorf("the folder is in use by process %d, which repaired the log when it opened it: stop it first", before.PID)
	case before.Epoch == 0 && len(before.Segments) == 0:
		return exitFailed, fmt.Errorf("%s holds no log; nothing was changed", t.dir)
	case !t.yes:
		return exitFailed, errors.New("nothing was changed: repair opens the log, which keeps copies of damaged segments, removes unused files and begins a new segment. Make a copy of the folder first, then confirm with -yes")
	}
	names, err := t.files()
	if err != nil {
		return exitFailed, err
	}
	if err := before.Close(); err != nil {
		return exitFailed, err
	}
	var found []persistence.Corruption
	o := keepAll
	o.OnCorruption = func(c persistence.Corruption) { found = append(found, c) }
	l, err := persistence.Open(t.dir, o)
	if err != nil {
		return exitFailed, err
	}
	if err := l.Close(); err != nil {
		return exitFailed, err
	}
	after, err := inspect.Open(t.dir, persistence.Options{})
	if err != nil {
		return exitFailed, err
	}
	defer after.Close()
	return exitOK, t.report(before, after, found, names)
}

// keepAll keeps the receipts and dead letters, whatever limits the application uses.
var keepAll = persistence.Options{Retention: persistence.Retention{MaxReceipts: math.MaxInt32, ReceiptAge: math.MaxInt64, MaxDeadLetters: 100_000}}

func (t *tool) report(before, after *inspect.Folder, found []persistence.Corruption, names map[string]int64) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	t.damage(w, found[:min(len(found), most)])
	if n := len(found); n > most {
		fmt.Fprintf(w, "damaged\tand %s\n", plural(n-most, "more place", "more places"))
	}
	if n := before.Stats.TornTails; n > 0 {
		fmt.Fprintf(w, "cut off\t%s\n", plural(n, "unfinished write", "unfinished writes"))
	}
	now, err := t.files()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		switch old, known := names[name]; {
		case !known && strings.HasSuffix(name, ".corrupt"):
			fmt.Fprintf(w, "copy kept\t%s\n", name)
		case !known:
			fmt.Fprintf(w, "created\t%s\n", name)
		case old != now[name]:
			fmt.Fprintf(w, "changed\t%s\n", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if _, known := now[name]; !known {
			fmt.Fprintf(w, "removed\t%s: the records in use were copied to another file, or it had none\n", name)
		}
	}
	if after.Epoch != before.Epoch {
		fmt.Fprintf(w, "epoch\t%d, previously %d: %s\n", after.Epoch, before.Epoch, why(before.Renewal))
	}
	s := after.Stats
	fmt.Fprintf(w, "messages\t%d accepted: %d pending, %d done, %s kept, %d lost to damage\n",
		s.Accepted, s.Pending, s.Accepted-s.Pending-s.DeadLetters-s.Lost, plural(s.DeadLetters, "dead letter", "dead letters"), s.Lost)
	if n := s.Corruptions; n > 0 {
		fmt.Fprintf(w, "result\tverify reports %s until all messages of the damaged segments are done and the segments are removed\n", plural(n, "damaged place", "damaged places"))
	} else {
		fmt.Fprintf(w, "result\tnothing is damaged\n")
	}
	return w.Flush()
}

// files returns the names and sizes of the files in the folder.
func (t *tool) files() (map[string]int64, error) {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		sizes[e.Name()] = info.Size()
	}
	return sizes, nil
}

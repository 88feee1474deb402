package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// newIdentity declares that the folder is a copy. The copy can then be used beside the original.
func (t *tool) newIdentity() (int, error) {
	before := t.in
	switch {
	case before.InUse:
		return exitFailed, fmt.Errorf("the folder is in use by process %d: stop it first", before.PID)
	case before.Epoch == 0 && len(before.Segments) == 0:
		return exitFailed, fmt.Errorf("%s holds no log; nothing was changed", t.dir)
	case !t.yes:
		return exitFailed, errors.New("nothing was changed: newidentity begins a new epoch and makes the session void. With -drop, it also drops the pending messages, which the original then delivers. Confirm with -yes")
	}
	if err := before.Close(); err != nil {
		return exitFailed, err
	}
	pending := persistence.KeepPending
	if t.drop {
		pending = persistence.DropPending
	}
	if err := persistence.DeclareCopy(t.dir, keepAll, pending); err != nil {
		return exitFailed, err
	}
	after, err := inspect.Open(t.dir, persistence.Options{})
	if err != nil {
		return exitFailed, err
	}
	defer after.Close()
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "epoch\t%d, previously %d\n", after.Epoch, before.Epoch)
	fmt.Fprintf(w, "session\tvoid: the next connection begins a new session\n")
	if t.drop {
		fmt.Fprintf(w, "pending\t%d, previously %d: the original delivers them\n", after.Stats.Pending, before.Stats.Pending)
	} else {
		fmt.Fprintf(w, "pending\t%d: the original and this copy both deliver them, with the same message IDs\n", after.Stats.Pending)
	}
	return exitOK, w.Flush()
}

package persistence

import (
	"errors"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// CopyPending decides about the pending messages of a copy.
type CopyPending uint8

const (
	KeepPending CopyPending = iota // they stay pending
	DropPending                    // they end as Dropped
)

// DeclareCopy makes the log in a folder independent of the log whose copy it is: it begins
// a new epoch, and knows no session any more. Use it where the system does not show that
// a folder was copied, before the log is opened for the first time: a snapshot of a disk, a
// restored virtual machine, a file system that does not identify files. It may be repeated.
//
// By default the pending messages stay pending. Then both the original and the copy deliver
// them, under the same message IDs, so a receiver with a dedupe cache handles them once.
// With DropPending only the original delivers them: the copy records the result Dropped.
// A client that uses the copy beside the original needs a ClientID of its own.
//
// Errors: those of [Open]; *FolderError if the folder holds no log.
func DeclareCopy(dir string, o Options, pending CopyPending) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if pending > DropPending {
		return &OptionError{Option: "CopyPending", Value: int64(pending), Range: "0 to 1"}
	}
	if err := holdsLog(o.withDefaults().FS, dir); err != nil {
		return err
	}
	l, err := openLog(dir, o, declared)
	if err != nil {
		return err
	}
	if pending == DropPending {
		err = dropPending(l)
	}
	return errors.Join(err, l.Close())
}

func holdsLog(fs fsys.FS, dir string) error {
	names, err := fs.ReadDir(dir)
	if err == nil && !slices.ContainsFunc(names, recovery.IsLogFile) {
		err = errors.New("there is no segment in it")
	}
	if err != nil {
		return &FolderError{Dir: dir, Fix: "name the folder that holds the copy of a log", Err: err}
	}
	return nil
}

func dropPending(l *Log) error {
	var c Cursor
	var e Entry
	for {
		ok, err := l.Next(&c, &e)
		if !ok || err != nil {
			return err
		}
		c.Pass(&e)
		if err := l.Done(e.Seq, Result{Kind: Dropped}); err != nil {
			return err
		}
	}
}

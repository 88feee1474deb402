package persistence

import (
	"errors"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// CopyPending selects what happens to the pending messages of a copied log.
type CopyPending uint8

const (
	KeepPending CopyPending = iota // the messages stay pending
	DropPending                    // the messages end with the result Dropped
)

// DeclareCopy makes a copied log independent of its original. It begins a new epoch and forgets the
// session. Call it before the copy is first opened, if [Open] cannot detect the copy. This is the
// case after a disk snapshot, after a virtual machine was restored, and on a file system that does
// not identify files. DeclareCopy may be called more than once.
//
// With KeepPending, both the original and the copy deliver the pending messages. The message IDs
// are the same, so a receiver with a dedupe cache handles each message once. With DropPending, only
// the original delivers these messages. A client that uses the copy while the original is in use
// needs a different ClientID.
//
// DeclareCopy returns the errors of [Open]. It returns a *[FolderError] if the folder contains no
// log.
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
		err = errors.New("it contains no log")
	}
	if err != nil {
		return &FolderError{Dir: dir, Fix: "pass the folder that contains the copy of a log", Err: err}
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

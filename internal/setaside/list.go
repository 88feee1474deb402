// Package setaside keeps received messages that were acknowledged but not handled. The list is a
// separate log, so it survives kills and power failures like accepted messages.
package setaside

import (
	"errors"
	"os"
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Errors of a list.
var (
	ErrFull    = safe.New("client: the list of set-aside messages is full; redeliver or discard some, or raise SetAside.MaxMessages or MaxBytes")
	ErrUnknown = safe.New("client: no set-aside message has this ID; it was handled or discarded")
	ErrBusy    = safe.New("client: the message is being redelivered; wait until it was handled or is listed again")
	errClosed  = errors.New("client: the list of set-aside messages is closed")
)

// List is a durable list. All methods are safe for concurrent use. Add, Get and Close wait for the
// disk. The other methods do not. Use New.
type List struct {
	dir     string
	options persistence.Options
	turn    chan struct{} // has an element while a goroutine opens or closes the log, which may take long

	mu     sync.Mutex       // not held while the disk is used
	log    *persistence.Log // nil: not open
	known  map[uint64]bool  // IDs of the entries; true: being redelivered
	closed bool
}

// New returns the list in a folder. If the folder exists, New opens it. Otherwise the first Add
// creates it.
func New(dir string, o persistence.Options) (*List, error) {
	l := &List{dir: dir, options: o, known: map[uint64]bool{}, turn: make(chan struct{}, 1)}
	fs := o.FS
	if fs == nil {
		fs = fsys.OS
	}
	names, err := fs.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && len(names) == 0:
		return l, nil
	case err != nil:
		return nil, &persistence.FolderError{Dir: dir, Fix: fsys.Remedy(err), Err: err}
	}
	_, err = l.open()
	return l, err
}

// opened returns the log, or nil if it is not open. It returns an error if the list is closed.
func (l *List) opened() (*persistence.Log, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	return l.log, nil
}

// open returns the log, and opens it if necessary.
func (l *List) open() (*persistence.Log, error) {
	if log, err := l.opened(); log != nil || err != nil {
		return log, err
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if log, err := l.opened(); log != nil || err != nil {
		return log, err
	}
	log, err := persistence.Open(l.dir, l.options)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	var c persistence.Cursor
	var e persistence.Entry
	for {
		ok, err := log.Next(&c, &e)
		if err != nil {
			_ = log.Close()
			return nil, err
		}
		if !ok {
			break
		}
		ids = append(ids, e.Seq)
		c.Pass(&e)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.known[id] = false
	}
	l.log = log // a Close that waits for its turn closes it
	return log, nil
}

// Add stores an entry durably and returns its ID. After an error the entry is not in the list.
// Errors are ErrFull and those of the store.
func (l *List) Add(e *Entry) (id uint64, err error) {
	log, err := l.open()
	if err != nil {
		return 0, err
	}
	id, err = persistence.Append(log, &persistence.Message{Accepted: e.Received, Packet: encode(e)})
	switch {
	case errors.Is(err, persistence.ErrFull):
		return 0, ErrFull
	case errors.Is(err, persistence.ErrDegraded) && id != 0:
		_ = log.Done(id, persistence.Result{Kind: persistence.Acked}) // otherwise the log would store it later
	}
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[id] = e.Taken
	return id, nil
}

// Get returns an entry. Errors are ErrUnknown and those of the store.
func (l *List) Get(id uint64) (*Entry, error) {
	log, err := l.entry(id)
	if err != nil {
		return nil, err
	}
	var stored persistence.Entry
	switch ok, err := log.Get(id, &stored); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrUnknown
	}
	e, err := decode(stored.Packet)
	if err == nil {
		e.ID, e.Received = id, stored.Accepted
	}
	return e, err
}

func (l *List) entry(id uint64) (*persistence.Log, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch _, ok := l.known[id]; {
	case l.closed:
		return nil, errClosed
	case !ok:
		return nil, ErrUnknown
	}
	return l.log, nil
}

// Has reports whether an entry is in the list.
func (l *List) Has(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.known[id]
	return ok
}

// IDs returns the IDs of the entries, the oldest first.
func (l *List) IDs() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]uint64, 0, len(l.known))
	for id := range l.known {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Take marks an entry as being redelivered. Errors are ErrUnknown and ErrBusy.
func (l *List) Take(id uint64) error {
	if _, err := l.entry(id); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known[id] {
		return ErrBusy
	}
	l.known[id] = true
	return nil
}

// Keep reverses Take. The entry stays in the list.
func (l *List) Keep(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[id]; ok {
		l.known[id] = false
	}
}

// Remove removes an entry. It returns nil if the entry does not exist. If the process is killed
// shortly afterwards, the entry may exist again.
func (l *List) Remove(id uint64) error {
	log, err := l.entry(id)
	if err == ErrUnknown {
		return nil
	}
	if err == nil {
		err = log.Done(id, persistence.Result{Kind: persistence.Acked})
	}
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.known, id)
	}
	return err
}

// Size returns the number of entries and their total size in bytes.
func (l *List) Size() (messages int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log == nil {
		return 0, 0
	}
	st := l.log.Stats()
	return int(st.Pending), st.PendingBytes
}

// Close makes all changes durable and closes the list.
func (l *List) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.mu.Lock()
	log := l.log
	l.mu.Unlock()
	if log == nil {
		return nil
	}
	return log.Close()
}

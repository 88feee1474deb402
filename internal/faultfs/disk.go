package faultfs

import (
	"path/filepath"
	"slices"
)

// disk is a simulated disk: the content that processes see, the content that is certainly on the
// medium, and the changes between the two. Operations are applied to it one by one.
type disk struct {
	inodes  []*inode          // by number
	names   map[string]*inode // as processes see them
	durable map[string]*inode // as they are after a crash
	changes []change          // name changes since the last sync of the folder
}

// change is a creation, removal or renaming that a crash may undo.
type change struct {
	kind     Kind
	name, to string
	in       *inode
}

// inode is a file, independent of its names.
type inode struct {
	number int
	data   []byte  // as processes see it
	base   []byte  // the content that is certainly on the medium
	layers []layer // changes since, in order
	open   int     // number of open handles

	shared bool // another disk shares data and base: copy them before writing
}

// layer is a write or, if data is nil, a truncation to off.
type layer struct {
	off  int64
	data []byte
	fate fate
}
type fate uint8

const (
	unsynced fate = iota // the next sync makes it durable
	lost                 // a sync failed: it is permanently unknown whether the layer is on the medium
	synced               // on the medium; kept in the list only while a lost layer precedes it
)

func newDisk() *disk {
	return &disk{names: map[string]*inode{}, durable: map[string]*inode{}}
}

// clone returns a copy of the disk. The two share their bytes until one of them is written to.
func (d *disk) clone() *disk {
	c := &disk{names: make(map[string]*inode, len(d.names)), durable: make(map[string]*inode, len(d.durable))}
	for _, in := range d.inodes {
		in.shared = true
		copied := *in
		copied.open, copied.layers = 0, slices.Clone(in.layers)
		c.inodes = append(c.inodes, &copied)
	}
	for name, in := range d.names {
		c.names[name] = c.inodes[in.number]
	}
	for name, in := range d.durable {
		c.durable[name] = c.inodes[in.number]
	}
	for _, ch := range d.changes {
		ch.in = c.inodes[ch.in.number]
		c.changes = append(c.changes, ch)
	}
	return c
}

// add adds a durable file.
func (d *disk) add(name string, data []byte) {
	in := &inode{number: len(d.inodes), data: data, base: data, shared: true}
	d.inodes = append(d.inodes, in)
	d.names[name], d.durable[name] = in, in
}

// apply applies an operation, which must be possible.
func (d *disk) apply(op *Op) {
	switch op.Kind {
	case Write:
		if len(op.Data) > 0 {
			d.inodes[op.file].write(layer{off: op.Off, data: op.Data})
		}
		return
	case Sync:
		d.inodes[op.file].sync(op.Err == nil)
		return
	}
	if op.Err != nil {
		return
	}
	switch op.Kind {
	case Truncate:
		d.inodes[op.file].write(layer{off: op.Off})
	case Create:
		in := &inode{number: len(d.inodes)}
		d.inodes = append(d.inodes, in)
		d.change(change{kind: Create, name: op.Name, in: in})
	case Remove, Rename:
		d.change(change{kind: op.Kind, name: op.Name, to: op.To, in: d.names[op.Name]})
	case SyncDir:
		d.changes = slices.DeleteFunc(d.changes, func(c change) bool {
			here := filepath.Dir(c.name) == op.Name
			if here {
				c.into(d.durable)
			}
			return here
		})
	}
}

func (d *disk) change(c change) {
	c.into(d.names)
	d.changes = append(d.changes, c)
}

// into applies the change to names, unless an earlier change that it depends on is missing.
func (c change) into(names map[string]*inode) {
	switch {
	case c.kind == Create:
		names[c.name] = c.in
	case names[c.name] != c.in:
	default:
		delete(names, c.name)
		if c.kind == Rename {
			names[c.to] = c.in
		}
	}
}

func (in *inode) write(l layer) {
	if in.shared {
		in.data, in.base, in.shared = slices.Clone(in.data), slices.Clone(in.base), false
	}
	in.data = l.to(in.data)
	in.layers = append(in.layers, l)
}

// to applies the layer to data, in place if there is room.
func (l layer) to(data []byte) []byte {
	if l.data == nil {
		return resize(data, l.off)
	}
	if end := l.off + int64(len(l.data)); int64(len(data)) < end {
		data = resize(data, end)
	}
	copy(data[l.off:], l.data)
	return data
}

// resize truncates data, or extends it with zeros.
func resize(data []byte, size int64) []byte {
	if n := size - int64(len(data)); n > 0 {
		return append(data, make([]byte, n)...)
	}
	return data[:size]
}

func (in *inode) sync(ok bool) {
	fate := lost
	if ok {
		fate = synced
	}
	for i := range in.layers {
		if in.layers[i].fate == unsynced {
			in.layers[i].fate = fate
		}
	}
	if in.shared && len(in.layers) > 0 {
		in.data, in.base, in.shared = slices.Clone(in.data), slices.Clone(in.base), false
	}
	for len(in.layers) > 0 && in.layers[0].fate == synced {
		in.base = in.layers[0].to(in.base)
		in.layers = in.layers[1:]
	}
}

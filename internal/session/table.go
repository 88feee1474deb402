package session

import "iter"

// table maps packet identifiers to values. The zero value of T means that an identifier has no
// value. The zero table is empty. If identifiers are assigned in sequence, as clients and servers
// do, a table needs less time and memory than a map.
type table[T comparable] struct {
	pages []*page[T] // up to the highest identifier that was ever set
	spare *page[T]   // an empty page
	n     int
}

const pageSize = 128

type page[T comparable] struct {
	values [pageSize]T
	n      int // number of set values
}

// get returns the value of an identifier.
func (t *table[T]) get(id uint16) (v T) {
	if at := int(id / pageSize); at < len(t.pages) && t.pages[at] != nil {
		v = t.pages[at].values[id%pageSize]
	}
	return v
}

// set sets the value of an identifier, or removes it.
func (t *table[T]) set(id uint16, v T) {
	var none T
	at := int(id / pageSize)
	for at >= len(t.pages) && v != none {
		t.pages = append(t.pages, nil)
	}
	if at >= len(t.pages) {
		return
	}
	p := t.pages[at]
	if p == nil {
		if v == none {
			return
		}
		if p, t.spare = t.spare, nil; p == nil {
			p = new(page[T])
		}
		t.pages[at] = p
	}
	have := &p.values[id%pageSize]
	switch {
	case *have == none && v != none:
		p.n++
		t.n++
	case *have != none && v == none:
		p.n--
		t.n--
	}
	if *have = v; p.n == 0 {
		t.pages[at], t.spare = nil, p
	}
}

// remove removes the value of an identifier.
func (t *table[T]) remove(id uint16) {
	var none T
	t.set(id, none)
}

// len returns the number of identifiers that have a value.
func (t *table[T]) len() int { return t.n }

// clear removes all values.
func (t *table[T]) clear() { *t = table[T]{} }

// all iterates over the values by identifier. The loop body may change the current value.
func (t *table[T]) all() iter.Seq2[uint16, T] {
	return func(yield func(uint16, T) bool) {
		var none T
		for at := range t.pages {
			for i := range pageSize {
				if t.pages[at] == nil {
					break
				}
				if v := t.pages[at].values[i]; v != none && !yield(uint16(at*pageSize+i), v) {
					return
				}
			}
		}
	}
}

package ordering

import (
	"crypto/sha256"
	"slices"
)

// ID identifies a message. All copies of a message have the same ID, and no other message has this
// ID. A UUID is a suitable ID. The zero ID means that a message has no ID.
type ID [16]byte

// idBytes is the memory that an ID takes.
const idBytes = int64(len(ID{}))

// HashID converts a text that identifies a message to an ID. The ID is the first 16 bytes of the
// SHA-256 of text. For an empty text, the ID is zero.
func HashID(text string) (id ID) {
	if text != "" {
		sum := sha256.Sum256([]byte(text))
		copy(id[:], sum[:])
	}
	return id
}

// idRing contains the IDs of the last messages of a stream. When the ring is full, a new ID
// replaces the oldest ID.
type idRing struct {
	ids    []ID
	oldest int
}

func (s *idRing) has(id ID) bool { return slices.Contains(s.ids, id) }
func (s *idRing) bytes() int64   { return int64(cap(s.ids)) * idBytes }

func (s *idRing) add(id ID) {
	if len(s.ids) < cap(s.ids) {
		s.ids = append(s.ids, id)
		return
	}
	s.ids[s.oldest] = id
	if s.oldest++; s.oldest == len(s.ids) {
		s.oldest = 0
	}
}

// move copies the IDs to the slice to, which is empty and has a larger capacity.
func (s *idRing) move(to []ID) {
	s.ids, s.oldest = s.appendTo(to), 0
}

// appendTo appends the IDs, oldest first.
func (s *idRing) appendTo(to []ID) []ID {
	return append(append(to, s.ids[s.oldest:]...), s.ids[:s.oldest]...)
}

// keep records the ID of an emitted message.
func (r *Resequencer[T]) keep(st *stream[T], id ID) {
	if id == (ID{}) {
		return
	}
	if st.recent == nil {
		st.recent = r.recent.PushBack(st)
	} else {
		r.recent.MoveToBack(st.recent)
	}
	if n := cap(st.ids.ids); len(st.ids.ids) == n && n < r.opts.MaxIDs && !r.growIDs(st, min(max(2*n, 8), r.opts.MaxIDs)) {
		r.stats.ForgottenIDs++ // the oldest ID of this stream, or this ID
		if n == 0 {
			return
		}
	}
	st.ids.add(id)
}

// growIDs gives a stream space for n IDs. If necessary, it makes the least recently used streams
// forget their IDs. It returns false if that does not free enough space.
func (r *Resequencer[T]) growIDs(st *stream[T], n int) bool {
	var room []ID
	more := int64(n)*idBytes - st.ids.bytes()
	for r.stats.IDBytes+more > r.opts.MaxIDBytes {
		other := r.recent.Front().Value.(*stream[T])
		if other == st {
			return false
		}
		r.stats.ForgottenIDs += uint64(len(other.ids.ids))
		if freed := r.freeIDs(other); cap(freed) == n { // reuse it
			room = freed[:0]
		}
	}
	if room == nil {
		room = make([]ID, 0, n)
	}
	r.stats.IDBytes += more
	st.ids.move(room)
	return true
}

// freeIDs makes a stream forget its IDs, and returns their memory for reuse.
func (r *Resequencer[T]) freeIDs(st *stream[T]) (freed []ID) {
	if st.recent == nil {
		return nil
	}
	r.recent.Remove(st.recent)
	r.stats.IDBytes -= st.ids.bytes()
	freed = st.ids.ids
	st.ids, st.recent = idRing{}, nil
	return freed
}

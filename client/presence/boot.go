package presence

import "github.com/google/uuid"

// BootID tells one life of a device from the next: a UUID, made when its client
// is. The zero BootID means that none was given.
type BootID [16]byte

// IsZero reports whether no boot was given.
func (b BootID) IsZero() bool { return b == BootID{} }

// String is the canonical text form of the UUID, in lower case; "" for no boot.
func (b BootID) String() string {
	if b.IsZero() {
		return ""
	}
	return uuid.UUID(b).String()
}

// ParseBootID reads the canonical text form of a UUID, 36 characters in either
// case. ok is false for all else, and for the nil UUID.
func ParseBootID(text string) (b BootID, ok bool) {
	if len(text) != 36 {
		return BootID{}, false
	}
	id, err := uuid.Parse(text)
	return BootID(id), err == nil && id != uuid.Nil
}

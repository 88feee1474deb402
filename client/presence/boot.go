package presence

import "github.com/google/uuid"

// BootID identifies one run of a device's client. It is a UUID that the client creates when it
// starts. The zero BootID means that the boot is unknown.
type BootID [16]byte

// IsZero reports whether b is the zero BootID.
func (b BootID) IsZero() bool { return b == BootID{} }

// String returns the canonical text form of the UUID in lower case, or "" for the zero BootID.
func (b BootID) String() string {
	if b.IsZero() {
		return ""
	}
	return uuid.UUID(b).String()
}

// ParseBootID parses the canonical text form of a UUID: 36 characters in upper or lower case. For
// any other text, and for the nil UUID, ok is false.
func ParseBootID(text string) (b BootID, ok bool) {
	if len(text) != 36 {
		return BootID{}, false
	}
	id, err := uuid.Parse(text)
	return BootID(id), err == nil && id != uuid.Nil
}

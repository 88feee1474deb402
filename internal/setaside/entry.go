package setaside

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// Entry is a message that was set aside.
type Entry struct {
	ID       uint64
	Received time.Time // millisecond precision
	At       time.Time // when it was set aside; millisecond precision
	Filter   string    // of the handler that did not accept it; empty: there was no handler
	Err      string    // of the last attempt; at most MaxErr bytes are stored
	Attempts int
	Packet   []byte // encoded message; opaque to the list
	Taken    bool   // being redelivered; not stored
}

// MaxErr limits the text of an error, in bytes.
const MaxErr = 1024

const version = 1

// encode returns the version, time, attempts, filter, error and packet of an entry.
func encode(e *Entry) []byte {
	err := strings.ToValidUTF8(e.Err, "\uFFFD")
	if len(err) > MaxErr {
		err = strings.ToValidUTF8(err[:MaxErr], "")
	}
	b := make([]byte, 0, 32+len(e.Filter)+len(err)+len(e.Packet))
	b = append(b, version)
	b = binary.AppendVarint(b, e.At.UnixMilli())
	b = binary.AppendUvarint(b, uint64(max(e.Attempts, 0)))
	for _, s := range [...]string{e.Filter, err} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, e.Packet...)
}

// ErrFormat is returned for an entry that cannot be read.
var ErrFormat = errors.New("client: a set-aside message cannot be read; a newer version has written it")

func decode(b []byte) (*Entry, error) {
	if len(b) == 0 || b[0] != version {
		return nil, ErrFormat
	}
	b = b[1:]
	bad := false
	at, n := binary.Varint(b)
	bad = n <= 0
	b = b[max(n, 0):]
	number := func(most uint64) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > most {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() string {
		n := number(uint64(len(b)))
		if bad || n > uint64(len(b)) {
			bad = true
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		bad = bad || !utf8.ValidString(s)
		return s
	}
	e := &Entry{Attempts: int(number(1<<31 - 1))}
	e.Filter, e.Err = text(), text()
	if bad {
		return nil, ErrFormat
	}
	e.At, e.Packet = time.UnixMilli(at), append([]byte(nil), b...)
	return e, nil
}

package wire

import (
	"errors"
	"io"
)

// Frame is one control packet. Its slices are valid until the next call of Reader.Next.
type Frame struct {
	Header byte   // first byte: type and flags
	Body   []byte // the bytes after the Remaining Length
	Raw    []byte // the whole packet
}

// Type returns the packet's type.
func (f Frame) Type() Type { return Type(f.Header >> 4) }

const (
	readBuffer = 16 << 10
	keepBuffer = 64 << 10 // maximum size of a buffer that is kept after a large packet
	emptyReads = 100      // how often the source may return no bytes and no error in succession
)

// Reader splits a byte stream into packets. It checks the packet size before it reads the packet.
// Its buffer grows only with bytes that have arrived. It is not safe for concurrent use.
type Reader struct {
	src        io.Reader
	max        int
	buf        []byte
	start, end int // unread bytes are buf[start:end]
}

// NewReader returns a Reader that refuses packets larger than max bytes. 0 means MaxPacketSize.
func NewReader(src io.Reader, max uint32) *Reader {
	if max == 0 || max > MaxPacketSize {
		max = MaxPacketSize
	}
	return &Reader{src: src, max: int(max), buf: make([]byte, readBuffer)}
}

// Buffered returns the number of bytes that were read from the source and not yet returned by Next.
func (r *Reader) Buffered() int { return r.end - r.start }

// Next returns the next packet. At the end of the stream it returns io.EOF between packets, and
// io.ErrUnexpectedEOF within a packet. For a malformed length or a packet that is too large, it
// returns an *Error with code 0x81 or 0x95. Otherwise the error is that of the source.
func (r *Reader) Next() (Frame, error) {
	for {
		size, header, err := r.peek()
		if err != nil {
			return Frame{}, err
		}
		if size > 0 && r.end-r.start >= size {
			raw := r.buf[r.start : r.start+size : r.start+size]
			r.start += size
			return Frame{Header: raw[0], Body: raw[header:], Raw: raw}, nil
		}
		if err := r.fill(size); err != nil {
			return Frame{}, err
		}
	}
}

// peek reads the fixed header. size is 0 if the header is incomplete.
func (r *Reader) peek() (size, header int, err error) {
	b := r.buf[r.start:r.end]
	if len(b) < 2 {
		return 0, 0, nil
	}
	length, n := Varint(b[1:])
	size = 1 + n + int(length)
	switch {
	case n < 0:
		return 0, 0, Malformed(Type(b[0]>>4), "Remaining Length is not a minimal Variable Byte Integer")
	case n == 0:
		return 0, 0, nil
	case size > r.max:
		return 0, 0, &Error{Code: ReasonPacketTooLarge, Packet: Type(b[0] >> 4),
			Detail: "packet is larger than the Maximum Packet Size that was announced"}
	}
	return size, 1 + n, nil
}

// fill reads more bytes. Before that it makes room: it moves the bytes that have arrived, grows the
// buffer to at most twice their size, or drops a buffer that a large packet has made too large.
func (r *Reader) fill(size int) error {
	have := r.end - r.start
	if have == 0 {
		r.start, r.end = 0, 0
	}
	switch {
	case have == 0 && len(r.buf) > keepBuffer:
		r.buf = make([]byte, readBuffer)
	case r.end < len(r.buf) && (size == 0 || r.start+size <= len(r.buf)):
		// There is room after the buffered bytes.
	case r.start > 0:
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		grown := make([]byte, min(2*len(r.buf), max(size, readBuffer)))
		r.end = copy(grown, r.buf[r.start:r.end])
		r.start, r.buf = 0, grown
	}
	for range emptyReads {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		switch {
		case n > 0:
			return nil
		case errors.Is(err, io.EOF) && have > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// Package segment reads and writes the segment files of the log. A segment is a header followed by
// records. Only the process that created a segment appends to it. Each opening begins a new
// segment, because it may be unknown whether the last write to the old one succeeded.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

const (
	Suffix     = ".mlog" // suffix of the file names
	HeaderSize = 64      // in bytes
	MaxNumber  = 1 << 48 // above the number of any segment
)

// Name returns the path of a segment.
func Name(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, Suffix))
}

// ParseName returns the segment number in a file name, or 0 for any other file.
func ParseName(name string) uint64 {
	hex, _ := strings.CutSuffix(name, Suffix)
	number, err := strconv.ParseUint(hex, 16, 64)
	if err != nil || number >= MaxNumber || name != Name("", number) {
		return 0
	}
	return number
}

// Link refers to the previous segment, and records how many bytes of that segment are in use.
// Segments with numbers between a segment and its link are not in use, because they were replaced
// or not finished.
type Link struct {
	Number uint64 // 0: there is no earlier segment
	Size   int64
}

// ErrHeader is returned for bytes that are not a header.
var ErrHeader = errors.New("not a valid segment header")

// VersionError is returned for a file of a newer format version.
type VersionError struct {
	File    string
	Version uint16
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d", e.File, e.Version)
}

// AppendHeader appends the header of a file of the present format version:
//
//	 0  magic     8 bytes
//	 8  version   2
//	10  zero      2
//	12  numbers   6 of 8 bytes
//	60  checksum  4   CRC-32C of the bytes before
//
// All integers in the files are little-endian. Magic, version and checksum have the same place in
// all later versions.
func AppendHeader(b []byte, magic [8]byte, numbers [6]uint64) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint16(append(b, magic[:]...), record.FormatVersion)
	b = append(b, 0, 0)
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return binary.LittleEndian.AppendUint32(b, record.CRC(b[start:]))
}

// ParseHeader reads the header of a file. Errors: those of the file, ErrHeader, *VersionError.
func ParseHeader(f io.ReaderAt, name string, magic [8]byte) (version uint16, numbers [6]uint64, err error) {
	b := make([]byte, HeaderSize)
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return 0, numbers, err
	} else if n < HeaderSize || [8]byte(b) != magic || binary.LittleEndian.Uint32(b[60:]) != record.CRC(b[:60]) {
		return 0, numbers, ErrHeader
	}
	if version = binary.LittleEndian.Uint16(b[8:]); version == 0 || version > record.FormatVersion {
		return 0, numbers, &VersionError{name, version}
	}
	for i := range numbers {
		numbers[i] = binary.LittleEndian.Uint64(b[12+8*i:])
	}
	return version, numbers, nil
}

// Header is the header of a segment. Its numbers are the fields below.
type Header struct {
	Version              uint16
	Number, Epoch, First uint64 // First is the sequence of the first message
	Prev                 Link
	File                 uint64 // identity of the file; 0: unknown, as in versions before 3
}

var magic = [8]byte{'M', 'O', 'O', 'R', 'L', 'O', 'G', 0}

// Append appends the header.
func (h Header) Append(b []byte) []byte {
	return AppendHeader(b, magic, [6]uint64{h.Number, h.Epoch, h.First, h.Prev.Number, uint64(h.Prev.Size), h.File})
}

// ReadHeader reads the header of a segment. Errors: those of ParseHeader.
func ReadHeader(f io.ReaderAt, name string) (Header, error) {
	version, n, err := ParseHeader(f, name, magic)
	if err != nil {
		return Header{}, err
	}
	h := Header{Version: version, Number: n[0], Epoch: n[1], First: n[2], Prev: Link{Number: n[3], Size: int64(n[4])}, File: n[5]}
	if h.First == 0 || h.First > record.MaxSequence || h.Number > record.MaxSequence || h.Prev.Size < 0 {
		return Header{}, ErrHeader
	}
	return h, nil
}

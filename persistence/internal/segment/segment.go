// Package segment reads and writes the files of the log. A segment is a header and
// records. A segment is only appended to, and only by the process that created it:
// each opening begins a new one, so that no write follows one of unknown fate.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

const (
	// Suffix is the end of the name of a segment.
	Suffix = ".mlog"
	// HeaderSize is the size of a header, in bytes.
	HeaderSize = 64
	// MaxNumber is above the number of each segment.
	MaxNumber = 1 << 48
)

// Name returns the path of a segment.
func Name(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, Suffix))
}

// ParseName returns the number of a segment with this file name, and 0 for any
// other file.
func ParseName(name string) uint64 {
	hex, found := strings.CutSuffix(name, Suffix)
	if !found || len(hex) != 16 || strings.ToLower(hex) != hex {
		return 0
	}
	number, err := strconv.ParseUint(hex, 16, 64)
	if err != nil || number >= MaxNumber {
		return 0
	}
	return number
}

// Link names the previous segment, and how many of its bytes count. Segments
// numbered between a segment and its link are void: superseded, or not finished.
type Link struct {
	Number uint64 // 0: no earlier segment counts
	Size   int64
}

// Header is the first HeaderSize bytes of a segment:
//
//	 0  magic     8 bytes
//	 8  version   2
//	10  zero      2
//	12  number    8
//	20  epoch     8
//	28  first     8   sequence of the first message in it
//	36  previous  8   Link.Number
//	44  size      8   Link.Size
//	52  zero      8
//	60  checksum  4   CRC-32C of the bytes before
//
// All integers in the files are little-endian. Later versions keep magic, version
// and checksum where they are.
type Header struct {
	Version              uint16
	Number, Epoch, First uint64
	Prev                 Link
}

var magic = [8]byte{'M', 'O', 'O', 'R', 'L', 'O', 'G', 0}

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

// Append appends the header in the present format version.
func (h Header) Append(b []byte) []byte {
	start := len(b)
	b = append(b, magic[:]...)
	b = binary.LittleEndian.AppendUint16(b, record.FormatVersion)
	b = append(b, 0, 0)
	for _, v := range [...]uint64{h.Number, h.Epoch, h.First, h.Prev.Number, uint64(h.Prev.Size), 0} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, record.CRC(b[start:]))
}

// ParseHeader returns ErrHeader, or a *VersionError without the file's name.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize || [8]byte(b) != magic || binary.LittleEndian.Uint32(b[60:]) != record.CRC(b[:60]) {
		return Header{}, ErrHeader
	}
	version := binary.LittleEndian.Uint16(b[8:])
	if version == 0 || version > record.FormatVersion {
		return Header{}, &VersionError{Version: version}
	}
	u := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	h := Header{Version: version, Number: u(12), Epoch: u(20), First: u(28), Prev: Link{Number: u(36), Size: int64(u(44))}}
	if h.First == 0 || h.First > record.MaxSequence || h.Number > record.MaxSequence || h.Prev.Size < 0 {
		return Header{}, ErrHeader
	}
	return h, nil
}

package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
)

// segment is one file of the log: a header, then records. Files are only ever
// appended to, and never by a process that did not create them: each opening
// begins a new one, so that no write follows one whose fate is unknown.
type segment struct {
	number uint64 // from the file's name; grows
	size   int64  // bytes that count
	index
}

// link names the previous segment and how many of its bytes count. Numbers
// between a segment's own and its link's are void: superseded, or never finished.
type link struct {
	number uint64 // 0: nothing before counts
	size   int64
}

const (
	segmentSuffix   = ".mlog"
	corruptSuffix   = ".corrupt"
	lockName        = "LOCK"
	headerSize      = 64
	maxSegment      = 1 << 48 // numbers are below
	maxFirstOpening = 256     // header and checkpoint of a new log
)

var magic = [8]byte{'M', 'O', 'O', 'R', 'L', 'O', 'G', 0}

func segmentName(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, segmentSuffix))
}

// parseSegmentName returns 0 for any other file.
func parseSegmentName(name string) uint64 {
	hex, found := strings.CutSuffix(name, segmentSuffix)
	if !found || len(hex) != 16 || strings.ToLower(hex) != hex {
		return 0
	}
	number, err := strconv.ParseUint(hex, 16, 64)
	if err != nil || number >= maxSegment {
		return 0
	}
	return number
}

// header is the first headerSize bytes of a segment:
//
//	 0  magic     8 bytes
//	 8  version   2
//	10  zero      2
//	12  number    8
//	20  epoch     8
//	28  first     8   sequence of the first message in it
//	36  previous  8   link.number
//	44  size      8   link.size
//	52  zero      8
//	60  checksum  4   CRC-32C of the bytes before
//
// All integers in the files are little-endian. Later versions keep magic,
// version and checksum where they are.
type header struct {
	version              uint16
	number, epoch, first uint64
	prev                 link
}

var errHeader = errors.New("not a valid segment header")

func (h header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic[:]...)
	b = binary.LittleEndian.AppendUint16(b, FormatVersion)
	b = append(b, 0, 0)
	for _, v := range []uint64{h.number, h.epoch, h.first, h.prev.number, uint64(h.prev.size), 0} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseHeader returns errHeader, or a *VersionError without the file's name.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize || [8]byte(b) != magic || binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return header{}, errHeader
	}
	version := binary.LittleEndian.Uint16(b[8:])
	if version == 0 || version > FormatVersion {
		return header{}, &VersionError{Version: version}
	}
	u := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	h := header{version: version, number: u(12), epoch: u(20), first: u(28), prev: link{number: u(36), size: int64(u(44))}}
	if h.first == 0 || h.first > maxSequence || h.number > maxSequence || h.prev.size < 0 {
		return header{}, errHeader
	}
	return h, nil
}

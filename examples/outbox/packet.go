package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// decode decodes a stored packet. If the packet is not a PUBLISH, ok is false. A stored packet has
// the packet identifier 0, because the client sets the identifier when it sends the packet. The
// parser rejects 0 [MQTT-2.2.1-4], so decode sets 1 while it parses.
func decode(packet []byte) (p wire.Publish, ok bool) {
	if len(packet) < 4 || wire.Type(packet[0]>>4) != wire.PUBLISH {
		return p, false
	}
	length, n := wire.Varint(packet[1:])
	if n <= 0 || 1+n+int(length) != len(packet) || length < 2 {
		return p, false
	}
	body := packet[1+n:]
	if at := 2 + int(binary.BigEndian.Uint16(body)); packet[0]&0x06 != 0 && len(body) >= at+2 {
		if id := body[at : at+2]; id[0] == 0 && id[1] == 0 {
			id[1] = 1
			defer func() { id[1], p.PacketID = 0, 0 }()
		}
	}
	v, err := wire.ParsePublish(wire.Frame{Header: packet[0], Body: body, Raw: packet})
	if err != nil {
		return p, false
	}
	return v.Decode(string(v.Topic)), true
}

// uuid formats a message ID. It returns an empty string if there is no ID.
func uuid(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// safe quotes text with characters that could control a terminal.
func safe(s string) string {
	if !utf8.ValidString(s) {
		return strconv.QuoteToASCII(s)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// readable reports whether b is printable text.
func readable(b []byte) bool {
	for _, r := range string(b) {
		if r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return false
		}
	}
	return utf8.Valid(b)
}

// size formats a number of bytes.
func size(n int64) string {
	for _, u := range []struct {
		unit  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.bytes), u.unit)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// span formats a duration with at most two units.
func span(d time.Duration) string {
	d = d.Abs()
	const day = 24 * time.Hour
	switch {
	case d >= 100*day:
		return fmt.Sprintf("%dd", d/day)
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d >= time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d/time.Millisecond)
}

// moment formats a time and its distance from now.
func (t *tool) moment(at time.Time) string {
	text := at.UTC().Format("2006-01-02 15:04:05.000Z")
	if at.After(t.now) {
		return text + " (in " + span(at.Sub(t.now)) + ")"
	}
	return text + " (" + span(t.now.Sub(at)) + " ago)"
}

// plural returns n and the matching noun.
func plural[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// name returns the name of a file without its folder.
func name(path string) string { return filepath.Base(path) }

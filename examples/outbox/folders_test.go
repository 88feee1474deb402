package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// begun is the time at which the messages of the tests were accepted. now is an hour later.
var begun = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
var now = begun.Add(time.Hour)

func id(n byte) [16]byte { return [16]byte{0: 1, 15: n} }

// put stores a PUBLISH packet.
func put(t *testing.T, l *persistence.Log, p wire.Publish, m persistence.Message) uint64 {
	t.Helper()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	m.Accepted, m.Packet = begun, wire.AppendPublish(nil, &p)
	seq, err := persistence.Append(l, &m)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func end(t *testing.T, l *persistence.Log, seq uint64, kind persistence.ResultKind, reason byte) {
	t.Helper()
	if err := l.Done(seq, persistence.Result{Kind: kind, Reason: reason}); err != nil {
		t.Fatal(err)
	}
}

// healthy creates a folder with messages in different states.
func healthy(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "outbox")
	l, err := persistence.Open(dir, persistence.Options{Retention: persistence.Retention{MaxReceipts: 10}})
	if err != nil {
		t.Fatal(err)
	}
	stream, _, _ := l.Stream("plant/1")
	put(t, l, wire.Publish{Topic: "plant/1/temp", QoS: 1, Payload: []byte("21.5 °C")}, persistence.Message{ID: id(1)})
	put(t, l, wire.Publish{Topic: "plant/1/image", QoS: 2, Retain: true, Payload: []byte{0, 1, 0xFF, 0xFE}, PayloadFormat: 0,
		HasExpiry: true, MessageExpiry: 5400, ContentType: "image/x", ResponseTopic: "answers", CorrelationData: []byte{1, 2}, User: []wire.UserProperty{{Key: "k", Value: "v\x1b"}}},
		persistence.Message{ID: id(2), Expires: begun.Add(90 * time.Minute), Priority: persistence.Urgent, Key: "image", Stream: stream, StreamSeq: 7, OnSessionLost: persistence.FailInFlight})
	put(t, l, wire.Publish{Topic: "$SYS/plant", QoS: 2, Payload: []byte("x")}, persistence.Message{ID: id(3)})
	put(t, l, wire.Publish{Topic: "plant/2/temp", QoS: 1}, persistence.Message{ID: id(4)})
	put(t, l, wire.Publish{Topic: "plant/2/temp", QoS: 1}, persistence.Message{ID: id(5)})
	if _, err := persistence.Append(l, &persistence.Message{Accepted: begun, Packet: []byte("\x30no packet")}); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(3); err != nil {
		t.Fatal(err)
	}
	end(t, l, 4, persistence.Refused, 0x97)
	end(t, l, 5, persistence.DeadLettered, 0x99)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// long creates a folder with several segments, in which all messages are pending. It returns the
// folder and its segments.
func long(t *testing.T) (string, []string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "outbox")
	l, err := persistence.Open(dir, persistence.Options{Files: persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		put(t, l, wire.Publish{Topic: "a", QoS: 1, Payload: bytes.Repeat([]byte{byte(i)}, 500)}, persistence.Message{ID: id(byte(i))})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "*.mlog"))
	if err != nil || len(segments) < 4 {
		t.Fatal(segments, err)
	}
	return dir, segments
}

func edit(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// image returns the names, sizes, modes, times and contents of all files in a folder.
func image(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[path] = fmt.Sprint(info.Mode(), info.ModTime())
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			files[path] += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// call runs the program.
func call(t *testing.T, dir string, args ...string) (code int, out, problems string) {
	t.Helper()
	var o, p bytes.Buffer
	code = run(append([]string{"-dir", dir}, args...), &o, &p, now)
	return code, o.String(), p.String()
}

// want runs the program on a folder and checks its exit code and output. It treats each sequence of
// blanks as one blank.
func want(t *testing.T, code int, parts []string, dir string, args ...string) {
	t.Helper()
	got, out, problems := call(t, dir, args...)
	flat := regexp.MustCompile(`[ \t]+`).ReplaceAllString(out+problems, " ")
	if got != code {
		t.Errorf("%v ends with %d, want %d:\n%s%s", args, got, code, out, problems)
	}
	for _, part := range parts {
		if !strings.Contains(flat, part) {
			t.Errorf("%v does not print %q:\n%s%s", args, part, out, problems)
		}
	}
}

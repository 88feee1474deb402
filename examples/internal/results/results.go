// Package results stores the results of a backend in a file. Each handled message adds one line
// with one write. The line contains the effect of the message (its value) and the key that
// identifies the message. So a process that is killed at any moment has stored both or neither:
// this is a transaction in its simplest form. At the next start, the file shows which messages
// have been handled.
package results

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
)

// Row is one handled message.
type Row struct {
	Key        []byte           `json:"key"` // Claim.Key, which identifies the message in the dedupe cache
	ID         client.MessageID `json:"id"`
	Topic      string           `json:"topic"`
	Publisher  string           `json:"pub"`
	Epoch      uint64           `json:"epoch"`
	Seq        uint64           `json:"seq"`
	Boot       uint64           `json:"boot"` // identifies the process of the device
	N          uint64           `json:"n"`    // number of this reading among those of its topic
	Value      float64          `json:"value"`
	SentAt     int64            `json:"sent"`     // Unix nanoseconds
	ReceivedAt int64            `json:"received"` // Unix nanoseconds
}

// File is the results file. It is safe for concurrent use.
type File struct {
	mu   sync.Mutex
	f    *os.File
	size int64
}

// Open opens or creates the file and returns its rows. It removes an incomplete last line, which a
// killed process left: the message of that line was not handled.
func Open(path string) (*File, []Row, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, err
	}
	rows, good, err := Read(f)
	if err == nil {
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("results in %s: %w", path, err)
	}
	return &File{f: f, size: good}, rows, nil
}

// Read reads rows up to the first incomplete line. It also returns the offset of that line.
func Read(r io.Reader) (rows []Row, good int64, err error) {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return rows, good, nil
		}
		if err != nil {
			return nil, 0, err
		}
		var row Row
		if err := json.Unmarshal(bytes.TrimSpace(line), &row); err != nil {
			return nil, 0, fmt.Errorf("line at byte %d: %w", good, err)
		}
		rows = append(rows, row)
		good += int64(len(line))
	}
}

// Append adds a row. After it has returned nil, a kill of the process does not lose the row. To
// protect the row from a power failure too, call f.Sync here.
func (r *File) Append(row Row) error {
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.f.WriteAt(append(b, '\n'), r.size)
	if err != nil {
		// The next write overwrites an incomplete line.
		return err
	}
	r.size += int64(n)
	return nil
}

// Close closes the file.
func (r *File) Close() error { return r.f.Close() }

// Cache returns a dedupe cache that contains the messages in rows. The client adds the messages
// that it handles later; their rows are already in the file at that time.
func Cache(rows []Row) (dedupe.Cache, error) {
	cache := dedupe.NewMemory(dedupe.Options{Capacity: 1 << 20})
	for _, row := range rows {
		claim, verdict, err := cache.Begin(context.Background(), string(row.Key), "results")
		if err != nil || verdict != dedupe.Fresh {
			continue // a duplicate in the file; the quickstart's referee reports it
		}
		if err := cache.Commit(context.Background(), claim); err != nil {
			return nil, err
		}
	}
	return cache, nil
}

// Positions returns the last sequence number of each stream in rows.
func Positions(rows []Row) []client.Position {
	type stream struct {
		publisher, topic string
	}
	last := map[stream]client.Position{}
	for _, row := range rows {
		key := stream{row.Publisher, row.Topic}
		have := last[key]
		if row.Seq > 0 && (row.Epoch > have.Epoch || row.Epoch == have.Epoch && row.Seq > have.Seq) {
			last[key] = client.Position{Publisher: row.Publisher, Topic: row.Topic, Epoch: row.Epoch, Seq: row.Seq}
		}
	}
	var all []client.Position
	for _, p := range last {
		all = append(all, p)
	}
	return all
}

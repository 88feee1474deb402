// Package results is a backend's own data in the simplest form that can be
// called a transaction: a file to which each handled message adds one line, in
// one write. The line holds the effect (the value) and the key by which the
// message is known (its ID), so a process killed at any moment has both or
// neither. What the file says at the start is what was handled.
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
	Key        []byte           `json:"key"` // Claim.Key: by which the cache knows the message
	ID         client.MessageID `json:"id"`
	Topic      string           `json:"topic"`
	Publisher  string           `json:"pub"`
	Epoch      uint64           `json:"epoch"`
	Seq        uint64           `json:"seq"`
	Boot       uint64           `json:"boot"` // the device's process
	N          uint64           `json:"n"`    // its count of readings on this topic
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

// Open opens or creates the file and returns what it holds. A last line that a
// kill cut off is removed: its message was not handled.
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

// Read reads rows up to the first line that is not whole, and says where that
// is.
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

// Append adds a row. When it returns nil a kill of the process cannot undo it;
// where the power may go as well, add f.Sync() here.
func (r *File) Append(row Row) error {
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.f.WriteAt(append(b, '\n'), r.size)
	if err != nil {
		// Half a line is no line: the next one is written over it.
		return err
	}
	r.size += int64(n)
	return nil
}

// Close closes the file.
func (r *File) Close() error { return r.f.Close() }

// Cache returns a dedupe cache that knows the messages in rows. What is
// handled later is committed to it by the client; the file holds it already.
func Cache(rows []Row) (dedupe.Cache, error) {
	cache := dedupe.NewMemory(dedupe.Options{Capacity: 1 << 20})
	for _, row := range rows {
		claim, verdict, err := cache.Begin(context.Background(), string(row.Key), "results")
		if err != nil || verdict != dedupe.Fresh {
			continue // a duplicate in the file: the referee reports it
		}
		if err := cache.Commit(context.Background(), claim); err != nil {
			return nil, err
		}
	}
	return cache, nil
}

// Positions returns where each stream of rows stands.
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

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

const subscriberID = "subscriber"

// entry is a line of the journal: the effect of a message and its dedupe key, in one write.
type entry struct {
	key              string
	publisher, topic string
	epoch, seq       uint64
	payload          string
}

func (e *entry) String() string {
	return fmt.Sprintf("%x %s %s %d %d %s\n", e.key, e.publisher, e.topic, e.epoch, e.seq, e.payload)
}

func parseEntry(line string) (e entry, err error) {
	var key string
	if _, err = fmt.Sscan(line, &key, &e.publisher, &e.topic, &e.epoch, &e.seq, &e.payload); err != nil {
		return e, err
	}
	raw, err := hex.DecodeString(key)
	e.key = string(raw)
	return e, err
}

func journalPath(dir string) string { return filepath.Join(dir, "journal") }

// journal is a file of handled messages. A kill leaves at most one incomplete line.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

// openJournal returns the journal and its entries. It removes an incomplete line.
func openJournal(dir string) (j *journal, entries []entry, err error) {
	file, err := os.OpenFile(journalPath(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(file)
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	for line := range strings.Lines(string(whole)) {
		e, bad := parseEntry(line)
		err = errors.Join(err, bad)
		entries = append(entries, e)
	}
	_, seek := file.Seek(int64(len(whole)), io.SeekStart)
	return &journal{file: file}, entries, errors.Join(err, file.Truncate(int64(len(whole))), seek)
}

// handle writes a message to the journal in one call. Afterwards the message counts as handled.
func (j *journal) handle(_ context.Context, m *client.Message) error {
	e := entry{m.Claim.Key, m.Origin.Publisher, m.Topic, m.Origin.Epoch, m.Origin.Seq, string(m.Payload)}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err := j.file.WriteString(e.String())
	return err
}

// commitHandled commits the keys of the last entries to the cache, because the process may have
// been killed between an effect and the commit of its key. It returns the number of missing keys.
func commitHandled(ctx context.Context, cache dedupe.Cache, entries []entry) (missing int, err error) {
	for _, e := range entries[max(0, len(entries)-5000):] {
		c, v, err := cache.Begin(ctx, e.key, subscriberID)
		if err != nil {
			return missing, err
		}
		if v == dedupe.Fresh {
			missing++
			if err := cache.Commit(ctx, c); err != nil {
				return missing, err
			}
		}
	}
	return missing, nil
}

// positions returns the positions at which the streams continue.
func positions(entries []entry) (list []client.Position) {
	type stream struct{ publisher, topic string }
	last := map[stream]client.Position{}
	for _, e := range entries {
		p := client.Position{Publisher: e.publisher, Topic: e.topic, Epoch: e.epoch, Seq: e.seq}
		if before := last[stream{e.publisher, e.topic}]; e.epoch > before.Epoch || e.epoch == before.Epoch && e.seq > before.Seq {
			last[stream{e.publisher, e.topic}] = p
		}
	}
	for _, p := range last {
		list = append(list, p)
	}
	return list
}

// runSubscriber handles messages until ctx ends.
func runSubscriber(ctx context.Context, o options) (err error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	cache, err := dedupe.OpenFile(filepath.Join(o.dir, "dedupe"), dedupe.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	j, entries, err := openJournal(o.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.file.Close()) }()
	missing, err := commitHandled(ctx, cache, entries)
	if err != nil {
		return err
	}
	fmt.Println("repaired", missing)
	cfg := o.client(subscriberID, reliability.Backoff{Min: 10 * time.Millisecond, Max: 200 * time.Millisecond})
	cfg.Dir, cfg.Receiving.Dedupe = filepath.Join(o.dir, "store"), cache
	cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{Start: ordering.FromOne, GapTimeout: 3 * time.Second}, Restore: positions(entries)}
	c, err := client.New(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Handle("crash/#", client.HandlerFunc(j.handle)); err != nil {
		return err
	}
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	if _, err := c.Subscribe(ctx, "crash/#", client.ExactlyOnce, client.HandlerFunc(j.handle)); err != nil && ctx.Err() == nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// follow reads what was added to the journal since the last call.
func (r *referee) follow(dir string) error {
	file, err := os.Open(journalPath(dir))
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(r.journaled, io.SeekStart); err != nil {
		return err
	}
	for in := bufio.NewReader(file); ; {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil // an incomplete line is read again
		}
		if err != nil {
			return err
		}
		r.journaled += int64(len(line))
		e, err := parseEntry(line)
		if err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		r.received(e.topic, []byte(e.payload))
	}
}

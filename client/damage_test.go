package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/persistence"
)

// A waiting message is damaged on disk. Its Delivery ends, Drain does not wait for it, and the
// other messages are delivered.
func TestDamage_EndsMessage(t *testing.T) {
	b := mqtttest.Start(t)
	var events recorder
	dir := t.TempDir()
	c := mustNew(t, client.Config{
		Servers:  []string{b.URL()},
		ClientID: "c",
		Dir:      dir,
		OnEvent:  events.add,
		// With a small buffer, the message is read back from disk.
		Store: client.StoreConfig{Options: persistence.Options{Files: persistence.Files{BufferBytes: 4 << 10}}},
	})
	const n = 40
	var all [n]*client.Delivery
	for i := range all {
		all[i] = publish(t, c, "t", fmt.Sprintf("%03d %s", i, bytes.Repeat([]byte("."), 500)), client.AtLeastOnce)
	}
	damage(t, dir, []byte("007 ..."))

	start(t, c)
	if err := c.Drain(t.Context()); err != nil {
		t.Fatalf("Drain: %v", err)
	}
	for i, d := range all {
		if i == 7 {
			var damaged *client.DamagedError
			if o := wantState(t, d, client.Dropped); !errors.As(o.Err, &damaged) || damaged.Seq != 8 {
				t.Errorf("outcome %+v, want a *DamagedError for sequence 8", o)
			}
			continue
		}
		wantState(t, d, client.Acked)
	}
	if got := eventsOf[client.StoreDamaged](&events); len(got) == 0 || got[0].Seq != 8 {
		t.Errorf("StoreDamaged events: %+v", got)
	}
}

// damage flips a bit in the only place under dir that contains text.
func damage(t *testing.T, dir string, text []byte) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(data, text)
		if at < 0 {
			return nil
		}
		found++
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte{data[at] ^ 1}, int64(at))
		return err
	})
	if err != nil || found != 1 {
		t.Fatalf("%q stands in %d files: %v", text, found, err)
	}
}

// breakingStore fails to return messages, a few times.
type breakingStore struct {
	persistence.Store
	times int
}

func (s *breakingStore) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	if s.times > 0 {
		s.times--
		return false, errors.New("the disk does not answer")
	}
	return s.Store.Next(c, e)
}

// After a read error, the sender retries by itself and does not wait for the next publish.
func TestOutbox_RetriesAfterReadError(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		var events recorder
		cfg := testConfig("c", &events, through(p))
		cfg.Store.Custom = &breakingStore{Store: persistence.NewMemory(persistence.Options{}), times: 2} // the first failure occurs before a connection exists
		c := mustNew(t, cfg)
		d := publish(t, c, "t", "x", client.AtLeastOnce)
		begin := time.Now()
		start(t, c)
		if _, err := d.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		if len(eventsOf[client.StoreFailed](&events)) == 0 {
			t.Error("no StoreFailed event")
		}
	})
}

package mqtttest

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestClose_ClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Start(t, func(o *Options) { o.NoTCP = true })
		nc := b.Dial()
		defer nc.Close()
		_, _ = nc.Write(control.AppendConnect(nil, &control.Connect{ClientID: "c"})) // CONNACK is never read
		synctest.Wait()
		start := time.Now()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != closeGrace {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestNew_UnusableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{NoTCP: true, Dir: file}); err == nil {
		t.Error("a file was accepted as a folder")
	}
}

func TestJournal_FailedCompactionKeepsTheJournal(t *testing.T) {
	dir := t.TempDir()
	inBubble(t, Options{Dir: dir}, func(t *testing.T, b *Broker) {
		// The name that compaction writes to is taken by a folder.
		blocked := filepath.Join(dir, journalName+".new")
		if err := os.Mkdir(blocked, 0o700); err != nil {
			t.Fatal(err)
		}
		b.lock()
		b.log.slack = 0
		b.unlock()
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(1, "t")
		c.cut()
		for _, payload := range seq(1, 20) {
			p.publish("t", payload, 1)
		}
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		b.Kill()
		b = Start(t, WithDir(dir), func(o *Options) { o.NoTCP = true })
		if s := b.Stats(); s.Queued != 20 {
			t.Errorf("%+v", s)
		}
	})
}

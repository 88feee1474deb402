package client_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

var errDisk = errors.New("the disk is out of order")

// sickDisk is a file system whose fsync fails when told to.
type sickDisk struct {
	fsys.FS
	sick atomic.Bool
}

func (d *sickDisk) Create(name string) (fsys.File, error) {
	f, err := d.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &sickFile{f, d}, nil
}

type sickFile struct {
	fsys.File
	disk *sickDisk
}

func (f *sickFile) Sync() error {
	if f.disk.sick.Load() {
		return errDisk
	}
	return f.File.Sync()
}

func TestStore_DiskFailureIsReportedAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	disk := &sickDisk{FS: fsys.OS}
	var ids []string
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Dir, cfg.Store.Options.FS = dir, disk
		c := mustNew(t, cfg) // not started: all stays in the store
		for i := range 3 {
			ids = append(ids, publish(t, c, "t", fmt.Sprint(i), client.AtLeastOnce).ID.String())
		}
		disk.sick.Store(true)
		for range 2 {
			if d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1}); !errors.Is(err, persistence.ErrDegraded) || d != nil {
				t.Errorf("Publish on a disk that fails returned %v, %v, want ErrDegraded", d, err)
			}
		}
		synctest.Wait()
		if got := eventsOf[client.StoreDegraded](&events); len(got) != 1 || !errors.Is(got[0].Err, errDisk) {
			t.Errorf("StoreDegraded events are %v", got)
		}
		if n := c.Stats().Store.Outages; n != 1 {
			t.Errorf("%d outages were counted", n)
		}
		if err := c.Close(); err == nil {
			t.Error("Close hides that the store has failed")
		}
	})
	disk.sick.Store(false)
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Dir, cfg.Store.Options.FS = dir, disk
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		for i := range ids {
			m := p.nextPublish()
			if got := userProperty(m, client.PropID); got != ids[i] {
				t.Errorf("message %d came as %s, want %s", i, got, ids[i])
			}
			p.ack(wire.PUBACK, m.PacketID, 0, "")
		}
		for {
			if synctest.Wait(); c.Stats().Store.Pending == 0 {
				break
			}
			// Those that Publish said nothing good of may be there or not.
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		}
		must(t, c.Close())
	})
}

// TestStore_FailureHoldsBackPubrel: PUBREL must not leave
// before it is durable that PUBREC came. It leaves when the disk takes what is written again.
func TestStore_FailureHoldsBackPubrel(t *testing.T) {
	disk := &sickDisk{FS: fsys.OS}
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Dir, cfg.Store.Options.FS = t.TempDir(), disk
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		d := publish(t, c, "t", "x", client.ExactlyOnce)
		id := p.nextPublish().PacketID
		disk.sick.Store(true)
		p.ack(wire.PUBREC, id, 0, "")
		time.Sleep(2 * time.Second)
		p.quiet()
		if o := d.Outcome(); o.State != client.Pending {
			t.Errorf("the message ended as %v", o.State)
		}
		disk.sick.Store(false)
		if a := p.nextAck(wire.PUBREL); a.PacketID != id {
			t.Errorf("PUBREL has the identifier %d", a.PacketID)
		}
		p.ack(wire.PUBCOMP, id, 0, "")
		wantState(t, d, client.Acked)
		if got := eventsOf[client.Disconnected](&events); len(got) > 0 {
			t.Errorf("Disconnected events are %v", got)
		}
		must(t, c.Close())
	})
}

package client_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/ostest"
	"github.com/mooring-mqtt/mooring/persistence"
)

// press is a publisher that numbers its messages, and a receiver with Ordering and Dedupe.
type press struct {
	t    *testing.T
	b    *mqtttest.Broker
	in   *messageLog
	want map[string]bool // payloads of what was published
}

func newPress(t *testing.T, o mqtttest.Options) *press {
	t.Helper()
	o.NoTCP = true
	p := &press{t: t, b: mqtttest.Start(t, mqtttest.With(o)), in: newInbox(), want: map[string]bool{}}
	cfg := p.config("receiver")
	cfg.Receiving = client.ReceivingConfig{Ordering: &client.Ordering{}, Dedupe: dedupe.NewMemory(dedupe.Options{})}
	c := mustStart(t, cfg)
	connect(t, c)
	must1(c.Subscribe(t.Context(), "t/#", client.ExactlyOnce, p.in))
	return p
}

func (p *press) config(id string) client.Config {
	var events recorder
	cfg := testConfig(id, &events, nil)
	cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) { return p.b.Dial(), nil }
	return cfg
}

// publisher returns a client that numbers its messages under the same name, whatever its
// ClientID is: the hard case.
func (p *press) publisher(id, dir string, change func(*client.Config)) (*client.Client, *recorder) {
	p.t.Helper()
	var events recorder
	cfg := p.config(id)
	cfg.Dir, cfg.OnEvent = dir, events.add
	cfg.Publishing.Sequenced, cfg.Publishing.Publisher = true, "p"
	if change != nil {
		change(&cfg)
	}
	return mustNew(p.t, cfg), &events
}

// publish publishes messages with new message IDs, at QoS 1 and 2.
func (p *press) publish(c *client.Client, name string, n int) (list []*client.Delivery) {
	p.t.Helper()
	for i := range n {
		payload := fmt.Sprintf("%s/%d", name, i)
		p.want[payload] = true
		list = append(list, publish(p.t, c, "t/1", payload, client.QoS(1+i%2)))
	}
	return list
}

func (p *press) acked(list []*client.Delivery) {
	p.t.Helper()
	for _, d := range list {
		wantState(p.t, d, client.Acked)
	}
}

// handled wants each published message to be handled exactly once.
func (p *press) handled() {
	p.t.Helper()
	for end := time.Now().Add(10 * time.Second); len(p.in.messages()) < len(p.want) && time.Now().Before(end); {
		select {
		case <-p.in.more:
		case <-time.After(time.Until(end)):
		}
	}
	got := p.in.payloads()
	slices.Sort(got)
	if twice := len(got) - len(slices.Compact(slices.Clone(got))); twice > 0 || len(got) != len(p.want) {
		p.t.Errorf("handled %d messages, %d of them twice; published %d: %v", len(got), twice, len(p.want), got)
	}
	numbers := map[string]string{}
	for _, m := range p.in.messages() {
		number := fmt.Sprint(m.Origin)
		if other, used := numbers[number]; used {
			p.t.Errorf("%s and %s are both %s", other, m.Payload, number)
		}
		numbers[number] = string(m.Payload)
	}
}

func (p *press) renewed(events *recorder, want ...persistence.Renewal) {
	p.t.Helper()
	var got []persistence.Renewal
	for _, e := range eventsOf[client.StoreRenewed](events) {
		got = append(got, e.Cause)
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("StoreRenewed events for %v, want %v", got, want)
	}
}

// identifies skips the test where the file system does not identify files.
func identifies(t *testing.T) {
	t.Helper()
	f, err := fsys.OS.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	defer f.Close()
	if fsys.IdentityOf(f) == 0 {
		ostest.MissingIdentity(t)
	}
}

func copyDir(t *testing.T, to, from string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// TestStore_Clone: a folder with waiting messages is copied, while its client runs or after it
// was closed, and both are used at once. Both deliver the waiting messages, which the receiver
// handles once, and none of their new messages is treated as a duplicate.
func TestStore_Clone(t *testing.T) {
	identifies(t)
	for _, c := range []struct {
		name              string
		running, declared bool
	}{{"running", true, false}, {"closed", false, false}, {"running, declared", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			p := newPress(t, mqtttest.Options{})
			dir := filepath.Join(t.TempDir(), "store")
			clone := dir + ".clone"
			first, events := p.publisher("a", dir, nil) // not started: its messages wait
			waiting := p.publish(first, "waiting", 6)
			if !c.running {
				must(t, first.Close())
			}
			copyDir(t, clone, dir)
			if c.declared {
				must(t, persistence.DeclareCopy(clone, persistence.Options{}, persistence.KeepPending))
			}
			if c.running {
				start(t, first)
				p.acked(waiting)
			} else {
				first, events = p.publisher("a", dir, nil)
				start(t, first)
			}
			second, copied := p.publisher("b", clone, nil)
			start(t, second)
			for i := range 5 {
				p.acked(p.publish(first, fmt.Sprint("original", i), 4))
				p.acked(p.publish(second, fmt.Sprint("clone", i), 4))
			}
			must(t, first.Drain(t.Context()))
			must(t, second.Drain(t.Context()))
			if p.renewed(events); c.declared {
				p.renewed(copied)
			} else {
				p.renewed(copied, persistence.CopiedFiles)
			}
			p.handled()
		})
	}
}

// TestStore_CloneWithoutPending: the waiting messages of a declared copy are left to the original.
func TestStore_CloneWithoutPending(t *testing.T) {
	p := newPress(t, mqtttest.Options{})
	dir := filepath.Join(t.TempDir(), "store")
	first, _ := p.publisher("a", dir, nil)
	waiting := p.publish(first, "waiting", 6)
	copyDir(t, dir+".clone", dir)
	must(t, persistence.DeclareCopy(dir+".clone", persistence.Options{}, persistence.DropPending))
	second, _ := p.publisher("b", dir+".clone", nil)
	start(t, second)
	p.acked(p.publish(second, "clone", 4))
	if s := second.Stats().Store; s.Dropped != 6 || s.Acked != 4 {
		t.Errorf("%+v", s)
	}
	start(t, first)
	p.acked(waiting)
	p.handled()
}

// TestStore_Restored: an older copy of the folder, taken while the client ran or was closed,
// takes the place of the folder. The server still has the session of the life that is lost.
func TestStore_Restored(t *testing.T) {
	identifies(t)
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprint("running ", running), func(t *testing.T) {
			p := newPress(t, mqtttest.Options{})
			dir := filepath.Join(t.TempDir(), "store")
			c, _ := p.publisher("a", dir, nil)
			start(t, c)
			p.acked(p.publish(c, "before", 6))
			if !running {
				must(t, c.Close())
			}
			copyDir(t, dir+".backup", dir)
			if !running {
				c, _ = p.publisher("a", dir, nil)
				start(t, c)
			}
			p.acked(p.publish(c, "lost", 10))
			must(t, c.Close())
			for i := range 2 {
				must(t, os.RemoveAll(dir))
				copyDir(t, dir, dir+".backup")
				c, events := p.publisher("a", dir, nil)
				start(t, c)
				p.acked(p.publish(c, fmt.Sprint("restored", i), 20))
				p.renewed(events, persistence.CopiedFiles)
				must(t, c.Drain(t.Context()))
			}
			p.handled()
		})
	}
}

// TestStore_LostTail: the power goes under each sync policy, and numbers that were sent are
// used again, in a new epoch.
func TestStore_LostTail(t *testing.T) {
	for sync, want := range map[persistence.SyncPolicy][]persistence.Renewal{
		persistence.SyncEveryCommit: nil,
		persistence.SyncInterval:    {persistence.TailLost},
		persistence.SyncNever:       {persistence.TailLost},
	} {
		t.Run(fmt.Sprint(sync), func(t *testing.T) {
			p := newPress(t, mqtttest.Options{})
			disk := faultfs.New()
			options := func(cfg *client.Config) {
				cfg.Store.Options.FS, cfg.Store.Options.Sync, cfg.Store.Options.Interval = disk, sync, 24*time.Hour
			}
			c, events := p.publisher("a", "log", options)
			start(t, c)
			p.acked(p.publish(c, "before", 10))
			disk = disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
			must(t, c.Close())
			p.renewed(events)
			c, events = p.publisher("a", "log", options)
			if lost := c.Stats().Store.Accepted < 10; lost != (want != nil) {
				t.Fatalf("accepted %d of 10", c.Stats().Store.Accepted)
			}
			start(t, c)
			p.acked(p.publish(c, "after", 20))
			p.renewed(events, want...)
			must(t, c.Drain(t.Context()))
			p.handled()
		})
	}
}

// TestStore_ClockNeverSet: each life of a device loses its store, and its clock shows the same
// moment. No messages of one process are treated as duplicates of another's.
func TestStore_ClockNeverSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPress(t, mqtttest.Options{})
		for life := range 10 {
			c, _ := p.publisher("a", "", nil)
			start(t, c)
			p.acked(p.publish(c, fmt.Sprint("life", life), 4))
			must(t, c.Close())
		}
		p.handled()
	})
}

// TestStore_RenewalIsLogged: a new epoch is logged at Warn, and only a new epoch.
func TestStore_RenewalIsLogged(t *testing.T) {
	disk := faultfs.New()
	p := newPress(t, mqtttest.Options{})
	for i, want := range []bool{false, false, true} {
		var log bytes.Buffer
		if i == 2 {
			must(t, persistence.DeclareCopy("log", persistence.Options{FS: disk}, persistence.KeepPending))
			s, err := persistence.Open("log", persistence.Options{FS: disk, Sync: persistence.SyncNever})
			must(t, err)
			disk = disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
			must(t, s.Close())
		}
		c, _ := p.publisher("a", "log", func(cfg *client.Config) {
			cfg.Store.Options.FS, cfg.Logger = disk, slog.New(slog.NewTextHandler(&log, nil))
		})
		start(t, c)
		must(t, c.Close())
		if got := strings.Contains(log.String(), "level=WARN msg=\"store begins a new epoch: its last messages or numbers may be lost\" kind=store-renewed cause=\"tail lost\""); got != want {
			t.Errorf("opening %d logged: %s", i, log.String())
		}
	}
}

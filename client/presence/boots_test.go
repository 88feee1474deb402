package presence_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// said returns the payload of a status of boot n. Its version names the boot.
func said(state presence.State, n byte, reason string) string {
	s := presence.Status{State: state, Boot: presence.BootID{0: 1, 15: n}, Reason: reason, Version: fmt.Sprint("v", n)}
	switch {
	case state == presence.Online:
		s.Time = begin.Add(time.Duration(n) * time.Minute)
	case reason == presence.ReasonClose:
		s.Time = begin.Add(time.Duration(n)*time.Minute + time.Second)
	}
	return string(s.Append(nil))
}

func birth(n byte) string  { return said(presence.Online, n, presence.ReasonBirth) }
func closed(n byte) string { return said(presence.Offline, n, presence.ReasonClose) }
func will(n byte) string   { return said(presence.Offline, n, presence.ReasonWill) }

// last returns the last status that counted.
func (r *rig) last(topic string) string {
	d, _ := r.Get(topic, r.now)
	return fmt.Sprintf("%v: v%d %s", d.State, d.Status.Boot[15], d.Status.Reason)
}

func TestTracker_LateWillDoesNotReplaceNewerClose(t *testing.T) {
	for name, then := range map[string]func(*rig){
		"the late will":               func(r *rig) { r.live("a", will(1)) },
		"the late will, twice":        func(r *rig) { r.live("a", will(1)); r.live("a", will(1)) },
		"a retained close of the old": func(r *rig) { r.Lost(r.now); r.retained("a", closed(1)); r.sync() },
		"a retained will":             func(r *rig) { r.Resync(); r.retained("a", will(1)); r.sync() },
		"a retained will, no sync":    func(r *rig) { r.retained("a", will(1)) },
		"a retained will after a gap": func(r *rig) {
			r.Lost(r.now)
			r.retained("a", will(1))
			r.sync()
		},
		"the late will after a gap": func(r *rig) {
			r.Lost(r.now)
			r.retained("a", closed(2))
			r.sync()
			r.live("a", will(1))
		},
		"the late will during a fetch":   func(r *rig) { r.Lost(r.now); r.live("a", will(1)); r.sync() },
		"a will of the closed boot":      func(r *rig) { r.live("a", will(2)) },
		"the late will of the past":      func(r *rig) { r.Lost(r.now); r.past("a", will(1)); r.retained("a", will(1)); r.sync() },
		"a retained birth of the closed": func(r *rig) { r.Lost(r.now); r.retained("a", birth(2)); r.sync() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, presence.Options{StaleAfter: time.Hour})
			r.live("a", birth(1))
			r.live("a", birth(2))
			r.live("a", said(presence.Online, 2, presence.ReasonHeartbeat))
			r.want(r.live("a", closed(2)), "a online>offline")
			since := r.now
			r.wait(time.Second)
			then(r)
			r.want(r.last("a"), "offline: v2 close")
			if d, _ := r.Get("a", r.now); !d.Since.Equal(since) || d.Boot != d.Status.Boot || d.Boots != 2 || d.Flaps != 0 {
				t.Errorf("%+v", d)
			}
			if r.Counts(r.now).Superseded == 0 {
				t.Error("the message is not counted as Superseded")
			}
			r.want(r.live("a", birth(3)), "a offline>online")
		})
	}
}

// TestTracker_CloseOfUnknownBoot: the birth of boot 2 was published during a gap.
func TestTracker_CloseOfUnknownBoot(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", birth(1))
	r.Lost(r.now)
	r.retained("a", closed(2))
	r.sync()
	r.live("a", will(1))
	r.want(r.last("a"), "offline: v2 close")
}

// TestTracker_WillOfUnknownBootDoesNotReplace: boot 9 ended before the Tracker began, so its will says
// nothing about boot 1.
func TestTracker_WillOfUnknownBootDoesNotReplace(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.retained("a", birth(1))
	r.sync()
	r.want(r.live("a", will(9)), "a online>offline")
	r.live("a", closed(1))
	r.want(r.last("a"), "offline: v1 close")
	if d, _ := r.Get("a", r.now); d.Boot != d.Status.Boot || d.Boots != 2 {
		t.Errorf("%+v", d)
	}
}

func TestTracker_StatusHasTheBootOfItsPayload(t *testing.T) {
	r := newRig(t, presence.Options{})
	r.live("a", birth(1))
	r.live("a", birth(2))
	r.Lost(r.now)
	r.want(r.retained("a", will(1)), "a online>offline") // boot 2 may have ended before
	r.want(r.last("a"), "offline: v1 will")
	if d, _ := r.Get("a", r.now); d.Boot != (presence.BootID{0: 1, 15: 2}) {
		t.Errorf("the newest boot is %v", d.Boot)
	}
	r.want(r.live("a", closed(2)), "")
	r.want(r.last("a"), "offline: v2 close")
	r.live("a", "offline")
	r.want(r.last("a"), "offline: v0 ")
}

// TestTracker_OldRetainedOnline: the server has restored an older database.
func TestTracker_OldRetainedOnline(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: time.Hour})
	r.live("a", birth(1))
	r.live("a", closed(1))
	r.sync()
	r.Lost(r.now)
	r.want(r.retained("a", birth(1)), "")
	r.wantList(r.sync(), "view synced")
	r.want(r.last("a"), "offline: v1 close")
	r.want(r.live("a", birth(1)), "a offline>online") // an online status that is not retained counts

	r.live("a", closed(1))
	r.live("a", said(presence.Online, 2, presence.ReasonBirth))
	r.wait(time.Second)
	r.Lost(r.now)
	r.want(r.retained("a", birth(1)), "a online>stale")
	r.wantList(r.sync(), "view synced")
	if d, _ := r.Get("a", r.now); d.Since != r.now || d.Status.Boot[15] != 2 || r.Counts(r.now).Stale != 1 {
		t.Errorf("%+v", d)
	}
	r.wantList(r.expire())
	r.want(r.live("a", birth(2)), "a stale>online")

	// A device without mooring reuses its boot ID after a close.
	r.live("c", boot("online", 1))
	r.live("c", string(presence.Status{State: presence.Offline, Boot: presence.BootID{0: 1, 15: 1}, Reason: presence.ReasonClose}.Append(nil)))
	r.Lost(r.now)
	r.want(r.retained("c", boot("online", 1)), "c offline>online")

	// An old birth of a boot that has not closed counts, but the close of the newer boot then counts too.
	r.live("b", birth(1))
	r.live("b", birth(2))
	r.Lost(r.now)
	r.retained("b", birth(1))
	r.want(r.live("b", closed(2)), "b online>offline")
}

func TestTracker_DoubtedDeviceIsNotReportedAsSilent(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: time.Hour})
	r.live("a", birth(1))
	r.live("a", closed(1))
	r.live("a", beat(1, r.now))
	r.Lost(r.now)
	r.want(r.retained("a", birth(1)), "a online>stale")
	r.wait(time.Minute)
	r.wantList(r.expire())
	r.want(r.live("a", beat(1, r.now)), "a stale>online")
	r.wait(time.Minute)
	r.wantList(r.expire(), "a online>stale")
}

// topicModel is a status topic of a device whose processes run one after the other. The will of a
// process that was killed may be published at any later time.
type topicModel struct {
	t        *testing.T
	rnd      *rand.Rand
	r        *rig
	watching bool // the tracker receives the messages
	newest   byte
	limit    byte // of newest
	running  bool
	wills    []byte
	sent     []modelStatus
	retained modelStatus
	last     modelStatus   // the last status of the newest boot
	known    map[byte]bool // boots of which the Tracker has received a status
	closed   byte          // the newest boot, if the Tracker has received its close
	log      []string
}

type modelStatus struct {
	state  presence.State
	boot   byte
	reason string
}

func (m *topicModel) publish(s modelStatus) {
	m.sent, m.retained = append(m.sent, s), s
	if s.boot == m.newest {
		m.last = s
	}
	m.log = append(m.log, fmt.Sprintf("%v %d %s watching %t", s.state, s.boot, s.reason, m.watching))
	if m.watching {
		m.r.live("a", said(s.state, s.boot, s.reason))
		m.received(s)
	}
}

func (m *topicModel) received(s modelStatus) {
	switch {
	case s == m.last && s.reason == presence.ReasonClose:
		m.closed = s.boot
	case !m.known[s.boot] || s.state == presence.Online && s.boot == m.newest:
		m.closed = 0 // an unknown boot may be newer
	}
	m.known[s.boot] = true
}

func (m *topicModel) online(reason string) {
	m.publish(modelStatus{presence.Online, m.newest, reason})
}

// step lets one thing happen on the topic.
func (m *topicModel) step() {
	switch {
	case !m.running && m.newest < m.limit && m.rnd.IntN(3) == 0:
		for i := 0; i < len(m.wills); { // the Tracker remembers four boots
			if m.wills[i]+3 > m.newest {
				i++
				continue
			}
			m.will(i)
		}
		m.newest++
		m.running = true
		m.online(presence.ReasonBirth)
	case m.running && m.rnd.IntN(4) == 0:
		m.running = false
		m.publish(modelStatus{presence.Offline, m.newest, presence.ReasonClose})
	case m.running && m.rnd.IntN(4) == 0:
		m.running = false
		m.wills = append(m.wills, m.newest)
	case m.running && m.rnd.IntN(3) == 0: // an interruption that is longer than the delay
		m.publish(modelStatus{presence.Offline, m.newest, presence.ReasonWill})
		m.online(presence.ReasonBirth)
	case m.running && m.rnd.IntN(2) == 0:
		m.online(presence.ReasonHeartbeat)
	case len(m.wills) > 0:
		m.will(m.rnd.IntN(len(m.wills)))
	}
}

func (m *topicModel) will(i int) {
	b := m.wills[i]
	m.wills = append(m.wills[:i:i], m.wills[i+1:]...)
	m.publish(modelStatus{presence.Offline, b, presence.ReasonWill})
	if m.running && m.rnd.IntN(2) == 0 {
		m.online(presence.ReasonCorrection)
	}
}

func (m *topicModel) check(want modelStatus, when string) {
	m.t.Helper()
	got, text := m.r.last("a"), fmt.Sprintf("%v: v%d %s", want.state, want.boot, want.reason)
	if want.boot > 0 && got != text {
		m.t.Fatalf("%s: got %q, want %q; %q", when, got, text, m.log[max(0, len(m.log)-20):])
	}
}

// TestTracker_FollowsNewestBoot: without a gap, the last status is that of the newest boot, in every
// order of births, closes and late wills.
func TestTracker_FollowsNewestBoot(t *testing.T) {
	for seed := range uint64(1000) {
		m := &topicModel{t: t, rnd: rand.New(rand.NewPCG(seed, 2)), r: newRig(t, presence.Options{}), limit: 30, watching: true, known: map[byte]bool{}}
		for range 30 {
			m.step()
			m.check(m.last, fmt.Sprint("seed ", seed))
		}
		if d, ok := m.r.Get("a", m.r.now); ok && d.Boots != int(m.newest) {
			t.Errorf("seed %d: %d boots, want %d", seed, d.Boots, m.newest)
		}
		if t.Failed() {
			return
		}
	}
}

// TestTracker_RecoversAfterGaps: the Tracker misses messages of four boots, and the server restores old retained
// messages. A close that the Tracker has received stays the last status until the next boot.
// The State is right when the device has published, and all wills are published.
func TestTracker_RecoversAfterGaps(t *testing.T) {
	for seed := range uint64(1000) {
		m := &topicModel{t: t, rnd: rand.New(rand.NewPCG(seed, 3)), r: newRig(t, presence.Options{StaleAfter: time.Hour}), limit: 4, watching: true, known: map[byte]bool{}}
		label := fmt.Sprint("seed ", seed)
		for range 12 {
			for range m.rnd.IntN(6) {
				m.step()
				if m.closed > 0 && m.closed == m.newest {
					m.check(m.last, label)
				}
			}
			m.r.Lost(m.r.now)
			m.watching = false
			for range m.rnd.IntN(6) {
				m.step()
			}
			m.watching = true
			if old := m.sent[m.rnd.IntN(max(1, len(m.sent))):]; len(old) > 0 && m.rnd.IntN(3) == 0 && m.known[old[0].boot] && (old[0].state == presence.Offline || old[0].boot == m.closed) {
				m.retained = old[0]
				m.log = append(m.log, "restored")
			}
			if s := m.retained; s.boot > 0 {
				m.r.retained("a", said(s.state, s.boot, s.reason))
				m.log = append(m.log, fmt.Sprintf("gap, retained %v %d %s", s.state, s.boot, s.reason))
				if s.state == presence.Offline || s.boot != m.closed {
					m.received(s)
				}
			}
			m.r.sync()
			if m.closed > 0 && m.closed == m.newest {
				m.check(m.last, label+" after a gap")
			}
		}
		for len(m.wills) > 0 {
			m.will(0)
		}
		if m.running {
			m.online(presence.ReasonBirth)
		}
		want := presence.Offline
		if m.running {
			want = presence.Online
		}
		if got := m.r.state("a"); m.newest > 0 && got != want {
			t.Errorf("%s: at the end %v, want %v; %q", label, got, want, m.log[max(0, len(m.log)-30):])
		}
		if t.Failed() {
			return
		}
	}
}

func TestTracker_ReportsRestartOfOnlineDevice(t *testing.T) {
	r := newRig(t, presence.Options{StaleAfter: -1})
	r.want(r.live("a", birth(1)), "a unknown>online")
	r.wait(time.Second)
	r.want(r.live("a", said(presence.Online, 1, presence.ReasonHeartbeat)), "")
	r.want(r.live("a", birth(2)), "a online>online restarted")
	if d, _ := r.Get("a", r.now); d.Status.Version != "v2" || d.Boots != 2 || !d.Since.Equal(begin) {
		t.Errorf("%+v", d)
	}
	r.want(r.live("a", birth(1)), "") // two processes on one topic do not restart with each heartbeat
	r.want(r.live("a", birth(2)), "")
	r.sync()

	r.Lost(r.now)
	r.wantList(r.expire(), "view stale")
	r.want(r.retained("a", birth(3)), "a stale>online restarted")
	r.Lost(r.now) // a device that was reported Online is now Stale
	r.wantList(r.expire(), "view stale")
	r.retained("a", birth(3))
	r.sync()

	r.live("a", closed(3))
	r.want(r.live("a", birth(4)), "a offline>online")
	r.live("plain", "online")
	r.want(r.live("plain", "online"), "")
}

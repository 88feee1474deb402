package link

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// TestIdentity_Decisions covers which session a connection resumes. That depends on the store, the
// mode, Clean Start and Session Present.
func TestIdentity_Decisions(t *testing.T) {
	mine, none, other, legacy := fakeStore{true, "c"}, fakeStore{}, fakeStore{true, "d"}, fakeStore{true, ""}
	takenOver, adopted, otherAdopted := fakeStore{true, OwnerTakenOver}, fakeStore{true, AdoptedOwner("c")}, fakeStore{true, AdoptedOwner("d")}
	violation := &wire.Error{Code: wire.ReasonProtocolError}
	const resume, strict = false, true
	for _, tt := range []struct {
		name            string
		store           fakeStore
		strict          bool
		cleanStart      bool  // of the Config
		check           error // before the first attempt
		asked           bool  // Clean Start of CONNECT
		absent, present error // by Session Present
	}{
		{"mine", mine, resume, false, nil, false, nil, nil},
		{"mine, clean start", mine, resume, true, nil, true, nil, violation},
		{"none", none, resume, false, nil, false, nil, ErrSessionAdopted},
		{"none, clean start", none, resume, true, nil, true, nil, violation},
		{"other", other, resume, false, nil, false, nil, ErrSessionAdopted},
		{"adopted", adopted, resume, false, nil, false, nil, nil},
		{"adopted under another", otherAdopted, resume, false, nil, false, nil, ErrSessionAdopted},
		{"owner not recorded", legacy, resume, false, nil, false, nil, nil},
		{"taken over", takenOver, resume, false, nil, false, nil, ErrUnknownSession},

		{"strict, mine", mine, strict, false, nil, false, &SessionMismatchError{}, nil},
		{"strict, mine, clean start", mine, strict, true, nil, true, nil, violation},
		{"strict, adopted", adopted, strict, false, nil, false, &SessionMismatchError{}, nil},
		{"strict, adopted under another", otherAdopted, strict, false, &SessionMismatchError{Owner: "d"}, false, nil, &SessionMismatchError{Present: true}},
		{"strict, none", none, strict, false, nil, false, nil, &SessionMismatchError{Present: true}},
		{"strict, none, clean start", none, strict, true, nil, true, nil, violation},
		{"strict, other", other, strict, false, &SessionMismatchError{Owner: "d"}, false, nil, &SessionMismatchError{Present: true}},
		{"strict, other, clean start", other, strict, true, nil, true, nil, violation},
		{"strict, taken over", takenOver, strict, false, &SessionMismatchError{Owner: OwnerTakenOver}, false, nil, &SessionMismatchError{Present: true}},
		{"strict, owner not recorded", legacy, strict, false, nil, false, &SessionMismatchError{}, nil},
	} {
		for _, present := range []bool{false, true} {
			i := NewIdentity(IdentityConfig{ClientID: "c", Expiry: time.Hour, Strict: tt.strict, CleanStart: tt.cleanStart, Store: tt.store})
			if err := i.checkStore(); !sameError(err, tt.check) {
				t.Errorf("%s: the check of the store returned %v, want %v", tt.name, err, tt.check)
			}
			if got := i.cleanStart(); got != tt.asked {
				t.Errorf("%s: Clean Start %v, want %v", tt.name, got, tt.asked)
			}
			want := tt.absent
			if present {
				want = tt.present
			}
			err := i.accept(present)
			if !sameError(err, want) {
				t.Errorf("%s, Session Present %v: %v, want %v", tt.name, present, err, want)
			}
			// If an unknown session is not adopted, the next CONNECT discards it.
			if got := i.cleanStart(); got != (tt.asked || err == ErrUnknownSession) {
				t.Errorf("%s, Session Present %v: Clean Start %v afterwards", tt.name, present, got)
			}
			if errors.Is(err, ErrUnknownSession) {
				err = i.accept(false) // for the next connection
			}
			if err != nil {
				continue
			}
			i.connected(&Up{})
			if i.cleanStart() {
				t.Errorf("%s, Session Present %v: Clean Start 1 for the second connection", tt.name, present)
			}
			i.discardSession() // after a takeover
			if !i.cleanStart() {
				t.Errorf("%s, Session Present %v: Clean Start 0 after a takeover", tt.name, present)
			}
		}
	}
}

func sameError(got, want error) bool {
	var a, b *SessionMismatchError
	var c, d *wire.Error
	switch {
	case errors.As(want, &a):
		return errors.As(got, &b) && *a == *b
	case errors.As(want, &c):
		return errors.As(got, &d) && c.Code == d.Code
	}
	return got == want
}

// A session is discarded if it ends with the connection or if the store could not record its owner.
func TestIdentity_DoesNotAdopt(t *testing.T) {
	long := strings.Repeat("c", 65_535)
	for name, cfg := range map[string]IdentityConfig{
		"no session":       {ClientID: "c", Store: fakeStore{}},
		"long identifier":  {ClientID: long, Expiry: time.Hour, Store: fakeStore{}},
		"after a takeover": {ClientID: "c", Expiry: time.Hour, Store: fakeStore{true, OwnerTakenOver}},
	} {
		if i := NewIdentity(cfg); i.accept(true) != ErrUnknownSession || !i.cleanStart() {
			t.Errorf("%s: the session is adopted", name)
		}
	}
}

// Without a Client Identifier there is no session to resume. The client keeps the assigned
// identifier and resumes its session.
func TestIdentity_AssignedClientID(t *testing.T) {
	i := NewIdentity(IdentityConfig{Store: fakeStore{}})
	if !i.cleanStart() || i.ClientID() != "" {
		t.Errorf("Clean Start %v for %q", i.cleanStart(), i.ClientID())
	}
	if err := i.accept(false); err != nil {
		t.Error(err)
	}
	i.assign("given")
	i.connected(&Up{})
	if i.cleanStart() || i.ClientID() != "given" {
		t.Errorf("Clean Start %v for %q", i.cleanStart(), i.ClientID())
	}
}

// TestIdentity_Session covers what is known about the session at the server before, during and
// after connections.
func TestIdentity_Session(t *testing.T) {
	type info struct {
		mayExist        bool
		expiry, expires time.Duration // expires: from the start; 0: never, or unknown
		expected        bool
	}
	minute, none := uint32(60), uint32(0)
	for name, tt := range map[string]struct {
		edit   func(*IdentityConfig)
		act    func(i *Identity)
		want   info
		passed time.Duration
	}{
		"earlier process":                 {want: info{true, 0, 0, true}},
		"earlier process, other owner":    {edit: func(c *IdentityConfig) { c.Store = fakeStore{true, "d"} }},
		"earlier process, clean start":    {edit: func(c *IdentityConfig) { c.CleanStart = true }},
		"earlier process, none kept":      {edit: func(c *IdentityConfig) { c.Expiry = 0 }},
		"new store":                       {edit: func(c *IdentityConfig) { c.Store = fakeStore{} }},
		"connected":                       {act: connectedFor(time.Minute), want: info{true, time.Minute, 0, true}, passed: time.Hour},
		"connected, none kept":            {act: connectedFor(0), want: info{mayExist: true}},
		"disconnected":                    {act: disconnectedAfter(time.Minute, nil), want: info{true, time.Minute, 11 * time.Minute, true}, passed: 10*time.Minute + 59*time.Second},
		"expired":                         {act: disconnectedAfter(time.Minute, nil), want: info{false, time.Minute, 11 * time.Minute, true}, passed: 11 * time.Minute},
		"never expires":                   {act: disconnectedAfter(NeverExpires, nil), want: info{true, NeverExpires, 0, true}, passed: 100 * time.Hour},
		"ended by the final DISCONNECT":   {act: disconnectedAfter(time.Hour, &none), want: info{false, 0, 10 * time.Minute, false}, passed: 10 * time.Minute},
		"shorter by the final DISCONNECT": {act: disconnectedAfter(time.Hour, &minute), want: info{true, time.Minute, 11 * time.Minute, true}, passed: 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				cfg := IdentityConfig{ClientID: "c", Expiry: 24 * time.Hour, Store: fakeStore{true, "c"}}
				if tt.edit != nil {
					tt.edit(&cfg)
				}
				i := NewIdentity(cfg)
				if tt.act != nil {
					tt.act(i)
				}
				mayExist, expiry, expires := i.Session(began.Add(tt.passed))
				got := info{mayExist, expiry, 0, i.Expected()}
				if !expires.IsZero() {
					got.expires = expires.Sub(began)
				}
				if got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			})
		})
	}
}

func connectedFor(expiry time.Duration) func(*Identity) {
	return func(i *Identity) { i.connected(&Up{SessionExpiry: expiry}) }
}

// disconnectedAfter connects and disconnects ten minutes later.
func disconnectedAfter(expiry time.Duration, final *uint32) func(*Identity) {
	return func(i *Identity) {
		up := &Up{SessionExpiry: expiry}
		i.connected(up)
		time.Sleep(10 * time.Minute)
		if final != nil {
			up.final.Store(&Disconnect{SessionExpiry: final})
		}
		i.disconnected(up)
	}
}

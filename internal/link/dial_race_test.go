package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// closing is a connection that reports when it is closed.
type closing struct {
	net.Conn
	addr   string
	closed chan string
}

func (c *closing) Close() error { c.closed <- c.addr; return nil }

// Each address refuses after a while, connects after a while, or never answers.
func TestRace_TriesAllAddresses(t *testing.T) {
	type fate struct {
		after time.Duration // 0: never
		ok    bool
	}
	const never = 0
	for name, tt := range map[string]struct {
		fates []fate
		want  string // the address that connected; "": none
		took  time.Duration
	}{
		"the only one connects":                     {[]fate{{time.Second, true}}, "a0", time.Second},
		"the first hangs":                           {[]fate{{never, false}, {10 * time.Millisecond, true}}, "a1", stagger + 10*time.Millisecond},
		"two hang":                                  {[]fate{{never, false}, {never, false}, {1, true}}, "a2", 2*stagger + 1},
		"the first is refused":                      {[]fate{{time.Millisecond, false}, {time.Millisecond, true}}, "a1", 2 * time.Millisecond},
		"the first is slow and still there first":   {[]fate{{stagger + 1, true}, {time.Second, true}}, "a0", stagger + 1},
		"the second overtakes":                      {[]fate{{time.Hour, true}, {1, true}}, "a1", stagger + 1},
		"all are refused":                           {[]fate{{1, false}, {1, false}, {1, false}}, "", 3},
		"all hang":                                  {[]fate{{never, false}, {never, false}}, "", 3 * time.Second},
		"both connect at once, and one is given up": {[]fate{{stagger + 1, true}, {1, true}}, "", stagger + 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				closed := make(chan string, len(tt.fates))
				var addrs []string
				for i := range tt.fates {
					addrs = append(addrs, fmt.Sprint("a", i))
				}
				var opened atomic.Int32
				began := time.Now()
				c, err := race(ctx, addrs, func(ctx context.Context, addr string) (net.Conn, error) {
					f := tt.fates[addr[1]-'0']
					var done <-chan time.Time
					if f.after > 0 {
						done = time.After(f.after)
					}
					select {
					case <-ctx.Done():
						if name != "both connect at once, and one is given up" {
							return nil, ctx.Err()
						}
					case <-done:
					}
					if !f.ok {
						return nil, fmt.Errorf("%s refused", addr)
					}
					opened.Add(1)
					return &closing{addr: addr, closed: closed}, nil
				})
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				switch {
				case err == nil && tt.want != "" && c.(*closing).addr != tt.want:
					t.Errorf("connected to %s, want %s", c.(*closing).addr, tt.want)
				case err == nil && len(closed) != int(opened.Load())-1:
					t.Errorf("%d connections were made and %d closed, want all but one", opened.Load(), len(closed))
				case err != nil && (tt.want != "" || opened.Load() > 0):
					t.Errorf("got %v", err)
				case name == "all are refused":
					for _, a := range addrs {
						if !strings.Contains(err.Error(), a+" refused") {
							t.Errorf("%v does not name %s", err, a)
						}
					}
				case name == "all hang" && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("got %v", err)
				}
			})
		})
	}
	if _, err := race(t.Context(), nil, nil); err == nil {
		t.Error("no address is no connection")
	}
}

func TestByTurns_AlternatesFamilies(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"10.0.0.1":                        "10.0.0.1",
		"10.0.0.1 10.0.0.2":               "10.0.0.1 10.0.0.2",
		"::1 ::2 ::3 10.0.0.1 10.0.0.2":   "::1 10.0.0.1 ::2 10.0.0.2 ::3",
		"10.0.0.1 10.0.0.2 10.0.0.3 ::1":  "10.0.0.1 ::1 10.0.0.2 10.0.0.3",
		"10.0.0.1 ::1 ::2 ::3 ::4":        "10.0.0.1 ::1 ::2 ::3 ::4",
		"fe80::1 10.0.0.1 fe80::2 fe80::": "fe80::1 10.0.0.1 fe80::2 fe80::",
	} {
		var ips []net.IPAddr
		for s := range strings.FieldsSeq(in) {
			ips = append(ips, net.IPAddr{IP: net.ParseIP(s)})
		}
		var got []string
		for _, ip := range byTurns(ips) {
			got = append(got, ip.String())
		}
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %v, want %s", in, got, want)
		}
	}
}

// net.DefaultResolver may be replaced by the application.
func TestDial_UsesNetDefaultResolver(t *testing.T) {
	was := net.DefaultResolver
	defer func() { net.DefaultResolver = was }()
	replaced := errors.New("the replaced resolver was called")
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, replaced }}
	if c, err := (&Dialer{}).Dial(t.Context(), server(t, "mqtt://some.invalid")); err == nil || !strings.Contains(err.Error(), replaced.Error()) {
		t.Errorf("%v, %v", c, err)
	}
}

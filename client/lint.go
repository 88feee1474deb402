package client

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// Finding is a combination of settings that Validate lets pass and that loses
// messages, misleads, or costs more than it must.
type Finding struct {
	Name     string // such as "will-qos-0", the same in all versions; docs/doctor.md lists them
	Severity Severity
	Fields   []string // of Config that make it up, the one to change first
	Problem  string   // what happens, and when
	Fix      string   // what to write instead
}

// String is one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s %s; %s [%s]", f.Severity, strings.Join(f.Fields, ", "), f.Problem, f.Fix, f.Name)
}

// Severity is what a Finding costs. A higher one is worse.
type Severity uint8

const (
	Note     Severity = iota // right only under a condition that Config does not show
	Wasteful                 // costs traffic, time or memory for nothing
	Exposes                  // others may read or forge what is sent
	Misleads                 // somebody is told what is not so, or is not told what is
	Loses                    // messages may be lost
)

// String returns the severity's name in lower case.
func (s Severity) String() string {
	return nameOf(s, "severity", "note", "wasteful", "exposes", "misleads", "loses")
}

// Lint returns combinations of settings that lose messages or mislead, the worst
// first. It dials nothing. A Config that Validate refuses has findings too, as far as
// it can be read. Start logs each: a Note at level Info, all others as warnings.
func (c Config) Lint() []Finding {
	v := lintView{set: c, is: c.withDefaults()}
	for _, s := range c.Servers {
		if u, err := link.ParseServer(s); err == nil {
			v.servers = append(v.servers, u)
			v.remote = v.remote || !isLocal(u)
		}
	}
	v.durable = c.Dir != "" || c.Store.Custom != nil
	v.session = v.is.Session.Expiry != NoSession
	var found []Finding
	for _, r := range lintRules {
		if r.when(&v) {
			found = append(found, Finding{r.Name, r.Severity, v.named(r.Fields), r.Problem, r.Fix})
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	return found
}

// lintView is a Config as the rules look at it.
type lintView struct {
	set, is Config // as it was written, and with defaults
	servers []*url.URL
	remote  bool // a server is not on this machine
	durable bool // the store outlives the process
	session bool // the server is asked to keep the session
}

// lintRule is one row of the table: a Finding, and when it is one.
type lintRule struct {
	Name     string
	Severity Severity
	Fields   fields
	Problem  string
	Fix      string
	when     func(v *lintView) bool
}

type fields = []string

// named returns fields as this Config writes them.
func (v *lintView) named(list fields) fields {
	list = slices.Clone(list)
	for i, f := range list {
		switch {
		case f == "Dir" && v.set.Store.Custom != nil:
			list[i] = "Store.Custom"
		case f == "Connection.Password" && v.set.Connection.Credentials != nil:
			list[i] = "Connection.Credentials"
		case v.set.Presence.Status != nil:
			list[i] = strings.Replace(f, "Presence.Will.", "Presence.Status.", 1)
		}
	}
	return list
}

// isLocal reports whether a server is reached without a network.
func isLocal(u *url.URL) bool {
	if u.Scheme == "unix" || u.Hostname() == "localhost" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}

// any reports whether a server that is not on this machine has one of the schemes.
func (v *lintView) any(schemes ...string) bool {
	return slices.ContainsFunc(v.servers, func(u *url.URL) bool { return !isLocal(u) && slices.Contains(schemes, u.Scheme) })
}

package subs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/session"
)

// This file tests which requests the table sends when a connection begins, in a new session and in a
// continued one.

func TestTable_RestoresMissingSubscriptions(t *testing.T) {
	s := serve(t)
	for i := range 40 {
		r := s.sub(Want{Filter: fmt.Sprint("f", i), QoS: 1})
		if err := done(t, r); err != nil {
			t.Error(err)
		}
	}
	s.sub(Want{Filter: "id", QoS: 1, ID: 7})
	s.connect(false, all)
	s.answer()
	s.answer()
	if s.answer(); strings.Count(s.log[0], ", ") != 31 || strings.Count(s.log[1], ", ") != 7 || s.log[2] != "id q1 rh0 id7" {
		t.Errorf("sent %q", s.log)
	}
	s.log = nil
	s.want()
	s.connect(true, all)
	s.want()
	s.unsub("f0")
	s.want("-f0")
	s.connect(false, all)
	if s.answer(); !strings.HasPrefix(s.log[0], "f1 q1 rh0, f2 ") {
		t.Errorf("sent %q", s.log)
	}
}

// A session of an earlier process may contain this process's subscriptions. Retained messages are
// sent as requested, whether the subscription was declared before or after the connection.
func TestTable_UsesRetainHandlingInForeignSessions(t *testing.T) {
	s := serve(t)
	s.sub(Want{Filter: "a", QoS: 1})
	s.sub(Want{Filter: "b", QoS: 1, RetainHandling: 2})
	s.sub(Want{Filter: "c", QoS: 1, RetainHandling: 1})
	s.table.attach(&connection{limits: all, present: true})
	s.want("a q1 rh0, b q1 rh2, c q1 rh1")
	now := s.sub(Want{Filter: "d"})
	s.want("d q0 rh0")
	if err := done(t, now); err != nil {
		t.Error(err)
	}
	s.sub(Want{Filter: "e", RetainHandling: 1})
	s.want("e q0 rh1")
	s.connect(true, all) // the handlers have received the retained messages
	s.want()
	s.unsub("e")
	s.sub(Want{Filter: "e", RetainHandling: 1})
	s.want("e q0 rh0") // the server has a subscription to the filter, but a different one
}

func TestTable_KeepsASubscriptionRefusedAtRestore(t *testing.T) {
	s := serve(t)
	s.refuse["a"] = true
	s.sub(Want{Filter: "a"})
	s.sub(Want{Filter: "b"})
	for range 2 {
		s.connect(false, all)
		s.want("a q0 rh0, b q0 rh0")
		s.results("0 a refused", "0 b granted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	given := s.sub(Want{Filter: "a"})
	if err := given.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.want("a q0 rh0")
	s.results("0 a refused") // no caller waits for it, so it is reported
	if _, ok := s.table.Application("a"); !ok {
		t.Error("what the caller gave up waiting for is forgotten")
	}
}

func TestTable_EndsSubscriptionsRemovedOffline(t *testing.T) {
	s := serve(t)
	s.sub(Want{Filter: "a"})
	s.connect(false, all)
	s.want("a q0 rh0")
	s.table.detach()
	s.unsub("a")
	s.unsub("never")
	s.connect(true, all)
	s.want("-a, -never")
	s.table.detach()
	s.unsub("lost")
	s.connect(false, all)
	s.want()
	s.connect(true, all)
	s.want()
	s.refuse["x"] = true
	r := s.unsub("x")
	s.want("-x")
	if err := done(t, r); !errors.As(err, new(*RefusedError)) {
		t.Errorf("got %v", err)
	}
}

// A session that was made by a server without Subscription Identifiers gets identifiers from a
// server that has them. Retained messages are not sent again.
func TestTable_AddsIdentifiersToASession(t *testing.T) {
	s := serve(t)
	id := Variant(FilterID("a", 0), 3)
	s.sub(Want{Filter: "a", ID: id})
	s.connect(false, session.Limits{})
	s.want("a q0 rh0")
	s.connect(true, all)
	s.want(fmt.Sprintf("a q0 rh2 id%d", id))
	s.connect(true, all)
	s.want()
}

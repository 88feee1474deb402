package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// short returns options for a small board with short times.
func short() options {
	o := defaults()
	o.addr, o.devices, o.every, o.runFor = "127.0.0.1:0", 24, 100*time.Millisecond, 6*time.Second
	o.keepAlive, o.willDelay = 2*time.Second, time.Second
	return o
}

func TestRun_BoardIsCorrectAtTheEnd(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), short(), &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"backend cut off 1", "broker restarts 1", "online 21, offline 3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

// TestReferee_DetectsWrongState: the check fails if the board does not receive the statuses.
func TestReferee_DetectsWrongState(t *testing.T) {
	o := short()
	o.calm, o.devices = true, 3
	s, err := newSimulation(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	within(t, time.Minute, "the board is right", func() bool { return len(s.differences()) == 0 })
	s.faults.stop()
	s.backend.watch.Close() // the board keeps the last states
	s.devices[1].suffer(off, 0)
	within(t, time.Minute, "the device is off", func() bool { st, _ := s.devices[1].truth(); return st == presence.Offline })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if wrong := s.settle(ctx); len(wrong) == 0 {
		t.Error("the check accepts a board that shows a stopped device as online")
	}
}

// TestReferee_DetectsLateState: the check fails if a device is shown as online for too long.
func TestReferee_DetectsLateState(t *testing.T) {
	o := short()
	r := &referee{s: &simulation{o: &o}, longest: o.limit() + slack, apart: o.limit() + slack + o.staleAfter}
	if wrong := r.broken(); len(wrong) != 0 {
		t.Errorf("%q", wrong)
	}
	r.longest++
	r.apart++
	if wrong := r.broken(); len(wrong) != 2 {
		t.Errorf("%q", wrong)
	}
}

func TestRun_EndsWithContext(t *testing.T) {
	o := short()
	o.runFor = 0
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	ended := make(chan error)
	go func() { ended <- run(ctx, o, &out) }()
	timer := time.AfterFunc(2*time.Second, cancel)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err != nil || ctx.Err() == nil {
			t.Errorf("ended with %v, context %v", err, ctx.Err())
		}
	case <-time.After(time.Minute):
		t.Fatal("run does not end")
	}
}

func TestRun_RefusesInvalidFlags(t *testing.T) {
	for name, change := range map[string]func(*options){
		"-devices": func(o *options) { o.devices = maxDevices + 1 },
		"-every":   func(o *options) { o.every = 0 },
		"-broker":  func(o *options) { o.broker = "http://x" },
		"-addr":    func(o *options) { o.addr = "127.0.0.1:99999" },
	} {
		o := short()
		change(&o)
		if err := run(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

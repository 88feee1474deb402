package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// short are the options of a small board whose promise is a short time.
func short() options {
	o := defaults()
	o.addr, o.devices, o.every, o.runFor = "127.0.0.1:0", 24, 100*time.Millisecond, 6*time.Second
	o.keepAlive, o.willDelay = 2*time.Second, time.Second
	return o
}

func TestTheBoardIsRightAtTheEnd(t *testing.T) {
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

// TestAWrongBoardIsNoticed: the referee fails a board that does not hear what is
// so.
func TestAWrongBoardIsNoticed(t *testing.T) {
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
	s.backend.watch.Close() // it goes on showing what it knew
	s.devices[1].suffer(off, 0)
	within(t, time.Minute, "the device is off", func() bool { st, _ := s.devices[1].truth(); return st == presence.Offline })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if wrong := s.settle(ctx); len(wrong) == 0 {
		t.Error("a board that shows a device as online that is off was found right")
	}
}

// TestABrokenPromiseIsNoticed: so does one that shows a device for too long.
func TestABrokenPromiseIsNoticed(t *testing.T) {
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

func TestASignalEndsIt(t *testing.T) {
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
		t.Fatal("it does not end")
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
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

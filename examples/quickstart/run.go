package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

func run(ctx context.Context, o options) error {
	switch o.without {
	case "", "dedupe":
	case "ids", "released":
		o.backendKills = 0 // so that only the device causes duplicates
	default:
		return fmt.Errorf("-without %s: use dedupe, ids or released", o.without)
	}
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "mooring-quickstart-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	s := &stage{o: o, referee: newReferee()}
	s.referee.verbose = o.verbose
	s.o.prefix = "mooring-" + client.NewMessageID().String()[:13]
	defer s.end()
	if err := s.begin(ctx); err != nil {
		return err
	}
	fmt.Printf("%d readings per second for %v with QoS 2, with link cuts, kills and restarts (another broker: -broker mqtt://host:1883)\n", o.rate, o.duration)
	if o.without != "" {
		fmt.Printf("without %s, and without deduplication and ordering in the backend, which would hide faults\n", o.without)
	}
	if err := s.play(ctx); err != nil {
		return err
	}
	return s.judge()
}

// begin starts the broker, the proxies and the backend. When the backend has subscribed, it starts the
// device.
func (s *stage) begin(ctx context.Context) error {
	target := s.o.broker
	if target == mosquitto {
		var err error
		if target, err = s.newMosquitto(); err != nil {
			return err
		}
	} else if target == "" {
		s.broker = s.process("broker", "127.0.0.1:0", filepath.Join(s.o.dir, "broker"))
		url, err := s.startAndAwait(ctx, s.broker)
		if err != nil {
			return err
		}
		target = url
		s.broker.args = s.process("broker", url[len("mqtt://"):], filepath.Join(s.o.dir, "broker")).args
	} else {
		var err error
		if target, err = external(ctx, target); err != nil {
			return err
		}
		s.foreign = target
	}
	var err error
	if s.deviceLink, err = mqtttest.NewProxy("127.0.0.1:0", target); err != nil {
		return err
	}
	if s.backendLink, err = mqtttest.NewProxy("127.0.0.1:0", target); err != nil {
		return err
	}
	// Simulate the delay of a cellular link, so that a cut always hits packets in flight.
	s.deviceLink.Delay(10*time.Millisecond, 10*time.Millisecond)
	for _, name := range []string{"device", "backend"} {
		if err := os.MkdirAll(filepath.Join(s.o.dir, name), 0o755); err != nil {
			return err
		}
	}
	s.backend = s.process("backend", s.backendLink.URL(), filepath.Join(s.o.dir, "backend"))
	if _, err := s.startAndAwait(ctx, s.backend); err != nil {
		return err
	}
	s.o.until = time.Now().Add(s.o.duration).UnixMilli()
	s.device = s.process("device", s.deviceLink.URL(), filepath.Join(s.o.dir, "device"))
	return s.device.start()
}

// play injects faults while the device publishes. Then it waits until all messages are delivered, or
// none has been delivered for 20 s.
func (s *stage) play(ctx context.Context) error {
	progress := startProgress(s)
	defer progress.stop()
	if err := s.chaos(ctx); err != nil {
		return err
	}
	finish, cancel := context.WithTimeout(ctx, s.o.duration+40*time.Second)
	defer cancel()
	if err := s.device.wait(finish); err != nil {
		return err
	}
	const idleTime = 20 * time.Second
	idle := time.NewTimer(idleTime)
	defer idle.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for have := 0; ; {
		rows, err := s.results()
		if err != nil {
			return err
		}
		if missing := s.referee.missing(rows); len(missing) == 0 {
			break
		}
		if len(rows) > have {
			have = len(rows)
			idle.Reset(idleTime)
		}
		select {
		case <-look.C:
			continue
		case <-idle.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		break
	}
	return s.backend.stop()
}

// end kills the child processes that still run, and cleans up at another broker.
func (s *stage) end() {
	for _, p := range []*process{s.device, s.backend, s.broker} {
		if p != nil && p.running() {
			p.kill()
		}
	}
	for _, p := range []*mqtttest.Proxy{s.deviceLink, s.backendLink} {
		if p != nil {
			_ = p.Close()
		}
	}
	if s.foreign != "" {
		if err := s.cleanUp(s.foreign); err != nil {
			fmt.Fprintln(os.Stderr, "quickstart: cannot remove the sessions and the retained status from the broker:", err)
		}
	}
}

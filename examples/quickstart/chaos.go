package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// mishap is one injected fault.
type mishap struct {
	name string
	do   func(ctx context.Context) error
}

func link(name string, do func()) mishap {
	return mishap{name, func(context.Context) error { do(); return nil }}
}

// mishaps returns the faults to inject, in the numbers that the flags give.
func (s *stage) mishaps() (all []mishap) {
	d, b := s.deviceLink, s.backendLink
	cuts := []mishap{
		link("device link cut", d.Cut),
		link("cut inside a PUBLISH of the device", func() { d.CutInside(mqtttest.ToServer, mqtttest.PUBLISH) }),
		link("PUBREC to the device lost", func() { d.Lose(mqtttest.ToClient, mqtttest.PUBREC) }),
		link("backend link cut", b.Cut),
		link("PUBCOMP to the device lost", func() { d.Lose(mqtttest.ToClient, mqtttest.PUBCOMP) }),
		link("cut inside a PUBLISH to the backend", func() { b.CutInside(mqtttest.ToClient, mqtttest.PUBLISH) }),
		link("cut inside a PUBREL of the device", func() { d.CutInside(mqtttest.ToServer, mqtttest.PUBREL) }),
		link("PUBREC of the backend lost", func() { b.Lose(mqtttest.ToServer, mqtttest.PUBREC) }),
		link("PUBCOMP of the backend lost", func() { b.Lose(mqtttest.ToServer, mqtttest.PUBCOMP) }),
	}
	for i := range s.o.cuts {
		all = append(all, cuts[i%len(cuts)])
	}
	all = append(all,
		link("device link stalled", func() { d.StallFor(time.Second) }),
		link("backend link stalled", func() { b.StallFor(time.Second) }))
	for range s.o.deviceKills {
		all = append(all, mishap{"device killed", func(context.Context) error {
			s.device.kill()
			s.deviceKills++
			return s.device.start()
		}})
	}
	for range s.o.backendKills {
		all = append(all, mishap{"backend killed", s.killBackend})
	}
	// While the database is unavailable, messages wait at the broker. A killed mosquitto loses the
	// messages of its last second, although it has acknowledged them. So this fault is not used with
	// mosquitto.
	if s.broker != nil && s.mosquitto == "" {
		all = append(all, mishap{"database of the backend unavailable for 3 s", func(context.Context) error { return s.databaseAway(3 * time.Second) }})
	}
	if s.broker != nil || s.o.restart != "" {
		for range s.o.restarts {
			all = append(all, mishap{"broker restarted", s.restartBroker})
		}
	}
	return all
}

// killBackend kills the backend after it has written a line of the results file, and before it
// acknowledges the message. A short stall of the link ensures that messages are waiting.
func (s *stage) killBackend(ctx context.Context) error {
	const stall = 300 * time.Millisecond
	s.backendLink.StallFor(stall)
	if err := sleep(ctx, stall); err != nil {
		return err
	}
	before := s.resultsSize()
	for range 1000 {
		if s.resultsSize() > before {
			break
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	s.backend.kill()
	s.backendKills++
	return s.backend.start()
}

// databaseAway makes the backend's handler fail for d.
func (s *stage) databaseAway(d time.Duration) error {
	name := filepath.Join(s.o.dir, "backend", awayFile)
	time.AfterFunc(d, func() { _ = os.Remove(name) })
	return os.WriteFile(name, nil, 0o600)
}

func (s *stage) restartBroker(ctx context.Context) error {
	s.brokerRestarts++
	if s.broker == nil {
		if out, err := exec.CommandContext(ctx, "sh", "-c", s.o.restart).CombinedOutput(); err != nil {
			return fmt.Errorf("restarting the broker: %w: %s", err, out)
		}
		return nil
	}
	if s.mosquitto != "" {
		return s.killMosquitto(ctx)
	}
	s.broker.kill()
	_, err := s.startAndAwait(ctx, s.broker)
	return err
}

// chaos injects the faults. It distributes them over the duration of the run, in an order that
// depends on the seed.
func (s *stage) chaos(ctx context.Context) error {
	all := s.mishaps()
	random := rand.New(rand.NewPCG(s.o.seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	begin := time.UnixMilli(s.o.until).Add(-s.o.duration)
	step := s.o.duration * 9 / 10 / time.Duration(len(all)+1)
	for i, m := range all {
		at := begin.Add(step*time.Duration(i+1) + time.Duration(random.Int64N(int64(step/2))))
		if err := sleep(ctx, time.Until(at)); err != nil {
			return err
		}
		s.referee.happened(m.name)
		if err := m.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

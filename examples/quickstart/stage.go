package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// errVerdict is returned when the run has ended normally and the promise was broken.
var errVerdict = errors.New("the promise was broken")

// stage holds everything that the main process runs.
type stage struct {
	o       options
	referee *referee

	broker                  *process // nil with -broker
	foreign                 string   // host:port of that broker
	mosquitto               string   // host:port of the mosquitto that broker runs; empty: it runs another one
	device, backend         *process
	deviceLink, backendLink *mqtttest.Proxy

	brokerRestarts, deviceKills, backendKills int
}

func (s *stage) startAndAwait(ctx context.Context, p *process) (said string, err error) {
	ready := s.referee.awaitReady(p.name)
	if err := p.start(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	select {
	case said := <-ready:
		return said, nil
	case <-p.ended():
		return "", fmt.Errorf("%s ended before it was ready: %w", p.name, p.failure())
	case <-ctx.Done():
		return "", fmt.Errorf("%s did not get ready: %w", p.name, context.Cause(ctx))
	}
}

func (s *stage) process(role, server, dir string) *process {
	without := s.o.without
	if without != "" && role == "broker" {
		without = ""
	}
	return newProcess(role, s.referee.listener(role),
		"-server", server, "-dir", dir, "-prefix", s.o.prefix, "-without", without,
		"-rate", fmt.Sprint(s.o.rate), "-until", fmt.Sprint(s.o.until))
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// errVerdict is returned if the run ended normally, but messages were lost, duplicated or misordered.
var errVerdict = errors.New("the run failed, see the lines with BROKEN")

// stage contains the child processes and proxies of a run.
type stage struct {
	o       options
	referee *referee

	broker                  *process // nil with -broker mqtt://...
	foreign                 string   // host:port of the broker in -broker mqtt://...
	mosquitto               string   // host:port, if broker is mosquitto
	device, backend         *process
	deviceLink, backendLink *mqtttest.Proxy

	brokerRestarts, deviceKills, backendKills int
}

func (s *stage) startAndAwait(ctx context.Context, p *process) (url string, err error) {
	ready := s.referee.awaitReady(p.name)
	if err := p.start(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	select {
	case url := <-ready:
		return url, nil
	case <-p.ended():
		return "", fmt.Errorf("%s ended before it was ready: %w", p.name, p.failure())
	case <-ctx.Done():
		return "", fmt.Errorf("%s is not ready: %w", p.name, context.Cause(ctx))
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

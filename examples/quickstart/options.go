package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

type options struct {
	broker       string
	restart      string
	rate         int
	duration     time.Duration
	cuts         int
	deviceKills  int
	backendKills int
	restarts     int
	seed         uint64
	without      string
	dir          string
	verbose      bool

	// For the child processes.
	role   string
	server string
	prefix string
	until  int64
}

// check returns an error for a flag with an invalid value.
func (o options) check() error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case o.rate < 1 || o.rate > 100_000:
		return fmt.Errorf("-rate %d: use 1 to 100000 readings per second", o.rate)
	case o.duration < time.Second:
		return fmt.Errorf("-duration %v: use at least 1s", o.duration)
	case o.cuts < 0 || o.deviceKills < 0 || o.backendKills < 0 || o.restarts < 0:
		return errors.New("-cuts, -device-kills, -backend-kills and -restarts cannot be negative")
	}
	return nil
}

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"
)

// simulation consists of the broker, the devices, the backend, the faults and the referee.
type simulation struct {
	o       *options
	place   *place
	devices []*device
	byName  map[string]*device
	backend *backend
	faults  *faults
	referee *referee
	begun   time.Time
}

func newSimulation(o options) (*simulation, error) {
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	p, err := newPlace(o.broker, hex.EncodeToString(id[:]))
	if err != nil {
		return nil, err
	}
	s := &simulation{o: &o, place: p, byName: map[string]*device{}, begun: time.Now()}
	for i := range o.devices {
		d := newDevice(i, p, s.o)
		s.devices = append(s.devices, d)
		s.byName[d.name] = d
	}
	if s.backend, err = newBackend(p, s.o, s); err != nil {
		return nil, errors.Join(err, p.close())
	}
	s.referee = newReferee(s)
	s.faults = newFaults(s) // starts the devices
	s.backend.board.begin()
	return s, nil
}

func (s *simulation) device(name string) *device { return s.byName[name] }

// close stops the devices, the backend and the broker. If the broker is another one, close removes the
// sessions and the retained statuses from it.
func (s *simulation) close() error {
	s.faults.stop()
	s.referee.stop()
	s.eachDevice((*device).close)
	var errs []error
	if !s.place.own {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, d := range s.devices {
			errs = append(errs, s.backend.forget(ctx, s.place.topic(d.name, "status")))
		}
		errs = append(errs, s.backend.c.Drain(ctx))
	}
	return errors.Join(append(errs, s.backend.close(), s.place.close())...)
}

// eachDevice calls do for all devices, for up to 64 at a time.
func (s *simulation) eachDevice(do func(*device)) {
	work := make(chan *device)
	var hands sync.WaitGroup
	for range min(len(s.devices), 64) {
		hands.Go(func() {
			for d := range work {
				do(d)
			}
		})
	}
	for _, d := range s.devices {
		work <- d
	}
	close(work)
	hands.Wait()
}

package client_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// lateDropper calls a function just before the first sent watermark is stored.
type lateDropper struct {
	*persistence.Memory
	once   sync.Once
	before func()
}

func (s *lateDropper) SetSent(p persistence.Priority, number uint64) error {
	s.once.Do(s.before)
	return s.Memory.SetSent(p, number)
}

// A newer message replaces one that the sender has already read and is about to send.
func TestConflate_DroppedMessageIsNotSent(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		var c *client.Client
		var newer *client.Delivery
		cfg.Store.Custom = &lateDropper{
			Memory: persistence.NewMemory(persistence.Options{}),
			before: func() {
				var err error
				if newer, err = c.Publish(t.Context(), client.Message{Topic: "t", Payload: []byte("new"), QoS: client.ExactlyOnce, Conflate: true}); err != nil {
					t.Error(err)
				}
			},
		}
		c = mustNew(t, cfg)
		old, err := c.Publish(t.Context(), client.Message{Topic: "t", Payload: []byte("old"), QoS: client.ExactlyOnce, Conflate: true})
		if err != nil {
			t.Fatal(err)
		}
		start(t, c)
		p := s.accept(control.Connack{})
		if m := p.nextPublish(); string(m.Payload) != "new" {
			t.Errorf("%q was sent", m.Payload)
		}
		synctest.Wait()
		if o := old.Outcome(); o.State != client.Dropped || !errors.As(o.Err, new(*client.DroppedError)) {
			t.Errorf("the old one: %+v", o)
		}
		if o := newer.Outcome(); o.State != client.Pending {
			t.Errorf("the new one: %+v", o)
		}
	})
}

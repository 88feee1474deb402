package interop

import (
	"context"
	"errors"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
)

func TestAuth_RefusedCredentialsEndTheClient(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{users: true}, func(r *run) {
		for name, change := range map[string]func(*client.Config){
			"wrong password": func(cfg *client.Config) { cfg.Connection.Username, cfg.Connection.Password = goodUser, []byte("guess") },
			"unknown user": func(cfg *client.Config) {
				cfg.Connection.Username, cfg.Connection.Password = "stranger", []byte(goodPassword)
			},
			"no user": func(*client.Config) {},
		} {
			cfg := r.config("sub")
			change(&cfg)
			c := r.make(cfg)
			if err := c.Start(context.Background()); err != nil {
				r.Fatal(err)
			}
			err := c.AwaitConnection(r.ctx)
			var refused *client.ConnectionError
			if !errors.As(err, &refused) || refused.Code != 0x86 && refused.Code != 0x87 {
				r.Errorf("%s: %v, want a *ConnectionError with 0x86 or 0x87", name, err)
			}
			select {
			case <-c.Done(): // it stops trying
			case <-r.ctx.Done():
				r.Errorf("%s: the client goes on", name)
			}
			if _, err := c.Publish(r.ctx, client.Message{Topic: "t", QoS: client.AtLeastOnce}); !errors.As(err, &refused) {
				r.Errorf("%s: Publish says %v, want the *ConnectionError", name, err)
			}
		}
	})
}

func TestAuth_DeniedTopicsAreRefused(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{users: true}, func(r *run) {
		cfg := r.config("both")
		cfg.Connection.Username, cfg.Connection.Password = goodUser, []byte(goodPassword)
		cfg.Publishing.Refusals = []client.RefusalRule{{Codes: []byte{0x87}, Action: client.GiveUp}}
		events := watch(&cfg)
		c := r.start(cfg)
		allowed, denied := r.topic("allowed"), r.topic(deniedLevel+"/topic")
		in := r.subscribe(c, allowed, client.ExactlyOnce)

		for _, qos := range []client.QoS{1, 2} {
			d := r.publish(c, client.Message{Topic: denied, QoS: qos})
			o, err := d.Wait(r.ctx)
			var refused *client.RefusedError
			if !errors.As(err, &refused) || refused.Code != 0x87 || o.State != client.Refused {
				r.Errorf("QoS %d to a denied topic: %v, %v, want refused with 0x87", qos, o, err)
			}
			if e := nth[client.MessageRefused](r, events, int(qos)); e.ID != d.ID {
				r.Errorf("QoS %d: the event names message %v, want %v", qos, e.ID, d.ID)
			}
		}

		_, err := c.Subscribe(r.ctx, denied, client.ExactlyOnce, in)
		var refused *client.RefusedError
		switch {
		case errors.As(err, &refused) && refused.Code == 0x87:
		case err == nil && r.broker.Traits().grantsDenied:
			r.Log("departs: SUBACK grants what its rules forbid, and nothing will come")
		default:
			r.Errorf("subscribing to a denied topic: %v, want refused with 0x87", err)
		}

		want := numberedUpTo(10)
		for _, text := range want {
			r.publish(c, client.Message{Topic: allowed, Payload: []byte(text), QoS: client.ExactlyOnce})
		}
		r.fence(c, in, allowed, client.ExactlyOnce)
		r.expectExactly(in, allowed, want)
		if err := c.Drain(r.ctx); err != nil {
			r.Error(err)
		}
		st := c.Stats()
		if st.Store.Refused != 2 || st.Store.Pending != 0 {
			r.Errorf("after two refusals the counts are %+v", st.Store)
		}
		switch {
		case st.Connections == 1:
		case r.broker.Traits().cutsRefused:
			r.Logf("departs: it ended %d connections after a refusal", st.Connections-1)
		default:
			r.Errorf("refusals cost %d connections", st.Connections-1)
		}
	})
}

package client_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

func TestMirrorRetained(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		r.set("a/1", "x")
		r.set("a/2/3", "y")
		r.set("$a/1", "z")
		view := must1(r.c.MirrorRetained(t.Context(), "#", client.RetainedOptions{}))
		hidden := must1(r.c.MirrorRetained(t.Context(), "$a/#", client.RetainedOptions{}))
		if end, err := view.Synced(t.Context()); err != nil || end != client.ByMarker {
			t.Fatal(end, err)
		}
		must1(hidden.Synced(t.Context()))
		changes := view.Changes()
		r.set("a/1", "x2")
		r.set("a/2/3", "")
		wantState(r.t, publish(r.t, r.other, "a/1", "not retained", client.AtLeastOnce), client.Acked)
		synctest.Wait()
		for _, c := range []struct {
			filter string
			want   []string
		}{
			{"#", []string{"a/1=x2"}}, {"a/+", []string{"a/1=x2"}}, {"+/1", []string{"a/1=x2"}}, {"a/2/#", nil}, {"$a/#", nil},
		} {
			if got := told(must1(view.Match(c.filter))); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q", c.filter, got)
			}
		}
		for _, c := range []struct {
			filter string
			want   []string
		}{{"#", nil}, {"+/1", nil}, {"$a/+", []string{"$a/1=z"}}} { // [MQTT-4.7.2-1]
			if got := told(must1(hidden.Match(c.filter))); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q", c.filter, got)
			}
		}
		if _, err := view.Match("a/#/b"); err == nil {
			t.Error("an invalid filter was accepted")
		}
		// Changes during a disconnection are reported after the reconnection.
		r.p.Refuse(true)
		r.p.Cut()
		r.set("a/1", "")
		r.set("a/4", "new")
		if m, ok := view.Get("a/1"); !ok || string(m.Payload) != "x2" {
			t.Error("the view is not as it was while the link is away")
		}
		r.p.Refuse(false)
		time.Sleep(2 * time.Second)
		must1(view.Synced(t.Context()))
		if got := told(slices.Collect(view.All())); !slices.Equal(got, []string{"a/4=new"}) || view.Len() != 1 {
			t.Errorf("%q", got)
		}
		view.Close()
		view.Close()
		var said []string
		for c := range changes {
			s := fmt.Sprint(c.Kind)
			if c.Message != nil {
				s += " " + c.Message.Topic
			}
			said = append(said, s)
		}
		if want := []string{"0 a/1", "1 a/2/3", "0 a/4", "1 a/1", "2"}; !slices.Equal(said, want) {
			t.Errorf("told %q, want %q", said, want)
		}
	})
}

func TestMirrorRetained_Limits(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		for i := range 5 {
			r.set(fmt.Sprintf("a/%d", i), "x")
		}
		view := must1(r.c.MirrorRetained(t.Context(), "a/#", client.RetainedOptions{MaxMessages: 3}))
		if _, err := view.Synced(t.Context()); !errors.As(err, new(*client.RetainedLimitError)) {
			t.Error(err)
		}
		if view.Len() != 3 || view.Refused() != 2 {
			t.Errorf("%d, %d refused", view.Len(), view.Refused())
		}
		r.set("a/0", "larger")
		r.set("a/1", "")
		synctest.Wait()
		if m, ok := view.Get("a/0"); !ok || string(m.Payload) != "larger" || view.Len() != 2 {
			t.Errorf("%v, %d", m, view.Len())
		}
	})
}

func TestMirrorRetained_Expiry(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		d, err := r.other.Publish(t.Context(), client.Message{Topic: "a", Payload: []byte("x"), QoS: client.AtLeastOnce, Retain: true, Expiry: time.Minute})
		must(t, err)
		wantState(t, d, client.Acked)
		view := must1(r.c.MirrorRetained(t.Context(), "#", client.RetainedOptions{}))
		must1(view.Synced(t.Context()))
		if _, ok := view.Get("a"); !ok {
			t.Error("not there")
		}
		time.Sleep(time.Minute)
		if _, ok := view.Get("a"); ok || len(told(must1(view.Match("#")))) != 0 {
			t.Error("it has expired")
		}
	})
}

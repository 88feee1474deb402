package client_test

import (
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// A client with an assigned identifier and overlapping subscriptions resumes the same session after
// a cut.
func TestAssignedClientID_ResumesSession(t *testing.T) {
	b := mqtttest.Start(t)
	events := &recorder{}
	inbox := newInbox()
	c := mustNew(t, client.Config{Servers: []string{b.URL()}, Session: client.SessionConfig{AssignedClientID: true}, OnEvent: events.add})
	must1(c.Subscribe(t.Context(), "a/+", client.ExactlyOnce, inbox, client.SubscriptionID(7)))
	must1(c.Subscribe(t.Context(), "a/#", client.AtLeastOnce, newInbox(), client.SubscriptionID(9)))
	start(t, c)
	connect(t, c)
	id := c.ClientID()
	if id == "" || !b.Connected(id) {
		t.Fatalf("the ClientID is %q", id)
	}
	for i := range 2 {
		_, err := publish(t, c, "a/b", "x", client.ExactlyOnce).Wait(t.Context())
		must(t, err)
		if i == 0 {
			b.Cut(id)
		}
	}
	for _, m := range inbox.await(t, 2) {
		if got := slices.Sorted(slices.Values(m.SubscriptionIDs)); !slices.Equal(got, []uint32{7, 9}) {
			t.Errorf("the Subscription Identifiers are %v", got)
		}
	}
	must(t, c.Close())
	for i, e := range eventsOf[client.Connected](events) {
		if e.ClientID != id || e.SessionPresent != (i > 0) {
			t.Errorf("connection %d: %+v", i, e)
		}
	}
	must(t, b.WaitFor(t.Context(), func() bool { return !b.Session(id) })) // no client could resume it
}

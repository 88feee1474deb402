package client

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// An invalid or too large number must not make a message that no other can follow.
func TestReceived_IgnoresInvalidNumbers(t *testing.T) {
	for _, text := range []string{"", "x", "-1", "1.5", "18446744073709551616", "99999999999999999999999"} {
		m := received(&wire.Publish{Topic: "t", User: []wire.UserProperty{
			{Key: propPublisher, Value: "p"}, {Key: propEpoch, Value: text}, {Key: propSeq, Value: text}}})
		if m.Origin.Epoch != 0 || m.Origin.Seq != 0 {
			t.Errorf("%q became %+v", text, m.Origin)
		}
	}
	m := received(&wire.Publish{Topic: "t", User: []wire.UserProperty{{Key: propSeq, Value: "18446744073709551615"}}})
	if m.Origin.Seq != 1<<64-1 {
		t.Errorf("the largest number became %d", m.Origin.Seq)
	}
}

package reliability

import (
	"fmt"
	"strings"
	"testing"
)

// What every reason code that a CONNACK or a DISCONNECT of MQTT 5 may carry
// means for the connection: tables 3-1 and 3-13 of the specification.
var actions = []struct {
	code                byte
	connack, disconnect Action // 0: this packet does not carry it
}{
	{0x00, Retrying, Retrying}, // a DISCONNECT 0x00: the server ended it as if we had asked
	{0x80, Retrying, Retrying},
	{0x81, Stop, Retrying},
	{0x82, Stop, Retrying},
	{0x83, Retrying, Retrying},
	{0x84, Stop, 0},
	{0x85, Stop, 0},
	{0x86, Stop, 0},
	{0x87, Stop, Retrying},
	{0x88, Retrying, 0},
	{0x89, RetryLater, RetryLater},
	{0x8A, Stop, 0},
	{0x8B, 0, Retrying},
	{0x8C, Stop, 0},
	{0x8D, 0, Retrying},
	{0x8E, 0, GiveWay},
	{0x8F, 0, Retrying},
	{0x90, Stop, Retrying},
	{0x93, 0, Retrying},
	{0x94, 0, Retrying},
	{0x95, Stop, Retrying},
	{0x96, 0, RetryLater},
	{0x97, RetryLater, RetryLater},
	{0x98, 0, Retrying},
	{0x99, Stop, Retrying},
	{0x9A, Stop, Retrying},
	{0x9B, Stop, Retrying},
	{0x9C, Follow, Follow},
	{0x9D, Follow, Follow},
	{0x9E, 0, Retrying},
	{0x9F, RetryLater, RetryLater},
	{0xA0, 0, Retrying},
	{0xA1, 0, Retrying},
	{0xA2, 0, Retrying},
}

func TestActions(t *testing.T) {
	for _, a := range actions {
		if got := OnConnack(a.code); a.connack != 0 && got != a.connack {
			t.Errorf("CONNACK 0x%02X %s: %v, want %v", a.code, ReasonName(a.code), got, a.connack)
		}
		if got := OnDisconnect(a.code); a.disconnect != 0 && got != a.disconnect {
			t.Errorf("DISCONNECT 0x%02X %s: %v, want %v", a.code, ReasonName(a.code), got, a.disconnect)
		}
	}
	for i := range 256 {
		code := byte(i)
		for _, a := range []Action{OnConnack(code), OnDisconnect(code)} {
			if a == 0 || strings.HasPrefix(a.String(), "action(") {
				t.Errorf("0x%02X: no action", code)
			}
		}
	}
	for _, a := range []Action{0, Stop + 1, 99} {
		if got := a.String(); got != fmt.Sprintf("action(%d)", int(a)) {
			t.Error(got)
		}
	}
}

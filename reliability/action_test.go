package reliability

import (
	"fmt"
	"strings"
	"testing"
)

// The actions after each reason code of CONNACK and DISCONNECT: tables 3-1 and 3-13 of
// the specification.
var actions = []struct {
	code                byte
	connack, disconnect Action // 0: not valid in this packet
}{
	{0x00, ActionRetry, ActionRetry}, // a server may end a connection with 0x00
	{0x80, ActionRetry, ActionRetry},
	{0x81, ActionStop, ActionRetry},
	{0x82, ActionStop, ActionRetry},
	{0x83, ActionRetry, ActionRetry},
	{0x84, ActionStop, 0},
	{0x85, ActionStop, 0},
	{0x86, ActionStop, 0},
	{0x87, ActionStop, ActionRetry},
	{0x88, ActionRetry, 0},
	{0x89, ActionRetryLater, ActionRetryLater},
	{0x8A, ActionStop, 0},
	{0x8B, 0, ActionRetry},
	{0x8C, ActionStop, 0},
	{0x8D, 0, ActionRetry},
	{0x8E, 0, ActionTakenOver},
	{0x8F, 0, ActionRetry},
	{0x90, ActionStop, ActionRetry},
	{0x93, 0, ActionRetry},
	{0x94, 0, ActionRetry},
	{0x95, ActionStop, ActionRetry},
	{0x96, 0, ActionRetryLater},
	{0x97, ActionRetryLater, ActionRetryLater},
	{0x98, 0, ActionRetry},
	{0x99, ActionStop, ActionRetry},
	{0x9A, ActionStop, ActionRetry},
	{0x9B, ActionStop, ActionRetry},
	{0x9C, ActionRedirect, ActionRedirect},
	{0x9D, ActionRedirect, ActionRedirect},
	{0x9E, 0, ActionRetry},
	{0x9F, ActionRetryLater, ActionRetryLater},
	{0xA0, 0, ActionRetry},
	{0xA1, 0, ActionRetry},
	{0xA2, 0, ActionRetry},
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
	for _, a := range []Action{0, ActionStop + 1, 99} {
		if got := a.String(); got != fmt.Sprintf("action(%d)", int(a)) {
			t.Error(got)
		}
	}
}

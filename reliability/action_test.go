package reliability_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/reliability"
)

// The actions after each reason code of CONNACK and DISCONNECT: tables 3-1 and 3-13 of
// the specification.
var actions = []struct {
	code                byte
	connack, disconnect reliability.Action // connack: of a client that was never accepted; 0: not valid in this packet
}{
	{0x00, reliability.ActionRetry, reliability.ActionRetry}, // a server may end a connection with 0x00
	{0x80, reliability.ActionRetry, reliability.ActionRetry},
	{0x81, reliability.ActionStop, reliability.ActionRetry},
	{0x82, reliability.ActionStop, reliability.ActionRetry},
	{0x83, reliability.ActionRetry, reliability.ActionRetry},
	{0x84, reliability.ActionStop, 0},
	{0x85, reliability.ActionStop, 0},
	{0x86, reliability.ActionStop, 0},
	{0x87, reliability.ActionStop, reliability.ActionRetry},
	{0x88, reliability.ActionRetry, 0},
	{0x89, reliability.ActionRetryLater, reliability.ActionRetryLater},
	{0x8A, reliability.ActionRetryLater, 0},
	{0x8B, 0, reliability.ActionRetry},
	{0x8C, reliability.ActionStop, 0},
	{0x8D, 0, reliability.ActionRetry},
	{0x8E, 0, reliability.ActionTakenOver},
	{0x8F, 0, reliability.ActionRetry},
	{0x90, reliability.ActionStop, reliability.ActionRetry},
	{0x93, 0, reliability.ActionRetry},
	{0x94, 0, reliability.ActionRetry},
	{0x95, reliability.ActionStop, reliability.ActionRetry},
	{0x96, 0, reliability.ActionRetryLater},
	{0x97, reliability.ActionRetryLater, reliability.ActionRetryLater},
	{0x98, 0, reliability.ActionRetry},
	{0x99, reliability.ActionStop, reliability.ActionRetry},
	{0x9A, reliability.ActionStop, reliability.ActionRetry},
	{0x9B, reliability.ActionStop, reliability.ActionRetry},
	{0x9C, reliability.ActionRedirect, reliability.ActionRedirect},
	{0x9D, reliability.ActionRedirect, reliability.ActionRedirect},
	{0x9E, 0, reliability.ActionRetry},
	{0x9F, reliability.ActionRetryLater, reliability.ActionRetryLater},
	{0xA0, 0, reliability.ActionRetry},
	{0xA1, 0, reliability.ActionRetry},
	{0xA2, 0, reliability.ActionRetry},
}

func TestActions(t *testing.T) {
	for _, a := range actions {
		if got := reliability.OnConnack(a.code, false); a.connack != 0 && got != a.connack {
			t.Errorf("CONNACK 0x%02X %s: %v, want %v", a.code, reliability.ReasonName(a.code), got, a.connack)
		}
		want := a.connack
		if want == reliability.ActionStop {
			want = reliability.ActionRetry
		}
		if got := reliability.OnConnack(a.code, true); a.connack != 0 && got != want {
			t.Errorf("CONNACK 0x%02X %s, accepted before: %v, want %v", a.code, reliability.ReasonName(a.code), got, want)
		}
		if got := reliability.OnDisconnect(a.code); a.disconnect != 0 && got != a.disconnect {
			t.Errorf("DISCONNECT 0x%02X %s: %v, want %v", a.code, reliability.ReasonName(a.code), got, a.disconnect)
		}
	}
	for i := range 256 {
		code := byte(i)
		for _, a := range []reliability.Action{reliability.OnConnack(code, true), reliability.OnConnack(code, false), reliability.OnDisconnect(code)} {
			if a == 0 || strings.HasPrefix(a.String(), "action(") {
				t.Errorf("0x%02X: no action", code)
			}
		}
		if reliability.OnDisconnect(code) == reliability.ActionStop || reliability.OnConnack(code, true) == reliability.ActionStop {
			t.Errorf("0x%02X stops a client that was accepted before", code)
		}
		if stops := bytes.IndexByte(reliability.StopCodes(), code) >= 0; stops != (reliability.OnConnack(code, false) == reliability.ActionStop) {
			t.Errorf("0x%02X: in StopCodes is %v", code, stops)
		}
	}
	for _, a := range []reliability.Action{0, reliability.ActionStop + 1, 99} {
		if got := a.String(); got != fmt.Sprintf("action(%d)", int(a)) {
			t.Error(got)
		}
	}
}

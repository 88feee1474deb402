package reliability_test

import (
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/reliability"
)

// The classes of all 43 codes of MQTT 5, table 2-6.
var classesOfReasons = map[reliability.Class][]byte{
	reliability.Success:       {0x00, 0x01, 0x02, 0x04, 0x10, 0x11, 0x18, 0x19},
	reliability.Transient:     {0x80, 0x83, 0x88, 0x8B, 0x8D, 0x98, 0xA0},
	reliability.Busy:          {0x89, 0x96, 0x9F},
	reliability.Quota:         {0x97},
	reliability.NotAuthorized: {0x87},
	reliability.Invalid:       {0x8F, 0x90, 0x95, 0x99, 0x9A, 0x9B, 0x9E, 0xA1, 0xA2},
	reliability.Session:       {0x91, 0x92},
	reliability.Protocol:      {0x81, 0x82, 0x93, 0x94},
	reliability.Fatal:         {0x84, 0x85, 0x86, 0x8A, 0x8C},
	reliability.Redirect:      {0x9C, 0x9D},
	reliability.Takeover:      {0x8E},
}

func TestClassify_EveryReasonCode(t *testing.T) {
	defined := map[byte]bool{}
	names := map[string]byte{}
	for class, codes := range classesOfReasons {
		for _, code := range codes {
			defined[code] = true
			if got := reliability.Classify(code); got != class {
				t.Errorf("0x%02X %s: %v, want %v", code, reliability.ReasonName(code), got, class)
			}
			if other, twice := names[reliability.ReasonName(code)]; twice {
				t.Errorf("0x%02X and 0x%02X are both %q", code, other, reliability.ReasonName(code))
			}
			names[reliability.ReasonName(code)] = code
		}
	}
	if len(defined) != 43 {
		t.Errorf("%d codes in the test, the specification has 43", len(defined))
	}
	for i := range 256 {
		code := byte(i)
		if unknown := strings.HasPrefix(reliability.ReasonName(code), "Unknown"); unknown == defined[code] {
			t.Errorf("0x%02X: name %q", code, reliability.ReasonName(code))
		}
		if !defined[code] {
			want := reliability.Success
			if code >= 0x80 {
				want = reliability.Transient
			}
			if got := reliability.Classify(code); got != want {
				t.Errorf("undefined 0x%02X: %v, want %v", code, got, want)
			}
		}
	}
	for code, name := range map[byte]string{
		0x10: "No matching subscribers", 0x87: "Not authorized", 0x8E: "Session taken over",
		0x97: "Quota exceeded", 0xA2: "Wildcard Subscriptions not supported", 0xFE: "Unknown (0xFE)",
	} {
		if got := reliability.ReasonName(code); got != name {
			t.Errorf("0x%02X: %q, want %q", code, got, name)
		}
	}
}

func TestClass_CountsAndRetryable(t *testing.T) {
	for class := range classesOfReasons {
		counts := class == reliability.Transient || class == reliability.Busy || class == reliability.Quota
		if class.Counts() != counts || class.Retryable() != (counts || class == reliability.Session) {
			t.Errorf("%v: counts %v, retryable %v", class, class.Counts(), class.Retryable())
		}
		if strings.HasPrefix(class.String(), "class(") {
			t.Errorf("class %d has no name", class)
		}
	}
	if got := reliability.Class(0).String() + (reliability.Takeover + 1).String() + reliability.Class(99).String(); got != "class(0)class(12)class(99)" {
		t.Error(got)
	}
}

package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestVarint_SpecificationTable(t *testing.T) {
	// Table 1-1: the first and last value of each length.
	for _, tt := range []struct {
		v uint32
		b string
	}{
		{0, "\x00"}, {127, "\x7F"}, {128, "\x80\x01"}, {16_383, "\xFF\x7F"}, {16_384, "\x80\x80\x01"},
		{2_097_151, "\xFF\xFF\x7F"}, {2_097_152, "\x80\x80\x80\x01"}, {268_435_455, "\xFF\xFF\xFF\x7F"},
	} {
		if got := wire.AppendVarint(nil, tt.v); string(got) != tt.b || wire.VarintLen(tt.v) != len(tt.b) {
			t.Errorf("%d is written as %x (length said to be %d), want %x", tt.v, got, wire.VarintLen(tt.v), tt.b)
		}
		if v, n := wire.Varint([]byte(tt.b + "rest")); v != tt.v || n != len(tt.b) {
			t.Errorf("%x is read as %d in %d bytes", tt.b, v, n)
		}
		for i := range len(tt.b) {
			if _, n := wire.Varint([]byte(tt.b[:i])); n != 0 {
				t.Errorf("%x, cut after %d bytes: n = %d, want 0", tt.b, i, n)
			}
		}
	}
	for _, bad := range []string{"\x80\x00", "\xFF\x80\x00", "\x80\x80\x80\x00", "\xFF\xFF\xFF\xFF", "\x80\x80\x80\x80\x01"} {
		if _, n := wire.Varint([]byte(bad)); n != -1 {
			t.Errorf("%x: n = %d, want -1", bad, n)
		}
	}
}

func TestString(t *testing.T) {
	b := wire.AppendString(wire.AppendString(nil, "one"), []byte{})
	s, rest, ok := wire.String(b)
	if !ok || string(s) != "one" || cap(s) != 3 {
		t.Errorf("got %q (capacity %d), %v", s, cap(s), ok)
	}
	if s, rest, ok = wire.String(rest); !ok || len(s) != 0 || len(rest) != 0 {
		t.Errorf("got %q, %q, %v", s, rest, ok)
	}
	for _, short := range []string{"", "\x00", "\x00\x01", "\xFF\xFFx"} {
		if _, _, ok := wire.String([]byte(short)); ok {
			t.Errorf("%x was read as a string", short)
		}
	}
}

func TestValidString(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "A\U0002A6D4": true, "\uFEFF": true, "温度": true, "\x01": true,
		"a\x00": false, "\xED\xA0\x80": false, "\xFF": false, "\xC0\x80": false,
	} {
		if got := wire.ValidString([]byte(s)); got != want {
			t.Errorf("ValidString(%q) = %v", s, got)
		}
	}
}

func TestCheckString_RefusesLongStrings(t *testing.T) {
	if err := wire.CheckString("Content Type", strings.Repeat("x", wire.MaxString)); err != nil {
		t.Error(err)
	}
	err := wire.CheckString("Content Type", strings.Repeat("x", wire.MaxString+1))
	if f, ok := err.(*wire.FieldError); !ok || f.Field != "Content Type" || !bytes.Contains([]byte(f.Error()), []byte("shorten")) {
		t.Errorf("got %v", err)
	}
}

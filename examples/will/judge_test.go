package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	ours := &broker{name: oursName, late: time.Second}
	mosquitto := &broker{name: mosquittoTested, tick: tick, late: time.Second, known: true}
	foreign := &broker{name: "elsewhere", tick: tick, late: time.Second, foreign: true}
	delayed := &scenario{wills: at(2), known: []departure{delaysLate}}
	silent := &scenario{wills: at(2), facts: []string{sawTakeover}, known: []departure{takeoverSilent, cleanStartSilent}}
	ms := func(n ...time.Duration) outcome {
		o := outcome{}
		for _, n := range n {
			o.wills = append(o.wills, n*time.Millisecond)
		}
		return o
	}
	and := func(o outcome, facts ...string) outcome {
		o.facts = facts
		return o
	}
	for _, tt := range []struct {
		name                 string
		c                    *scenario
		b                    *broker
		o                    outcome
		failed               bool
		wrong, known, mended []string
	}{
		{"right", delayed, ours, ms(2000), false, nil, nil, nil},
		{"right to the end of the tolerance", delayed, ours, ms(3000), false, nil, nil, nil},
		{"late", delayed, ours, ms(3001), true, []string{"1.00 s late"}, nil, nil},
		{"early", delayed, ours, ms(1999), true, []string{"0.00 s early"}, nil, nil},
		{"a tick is not early", delayed, mosquitto, ms(1991), false, nil, nil, nil},
		{"early there too", delayed, mosquitto, ms(1980), true, []string{"0.02 s early"}, nil, nil},
		{"twice", delayed, ours, ms(2000, 2100), true, []string{"will after 2.0 s, will after 2.1 s, expected will after 2 s"}, nil, nil},
		{"not at all", delayed, ours, ms(), true, []string{"no will, expected will after 2 s"}, nil, nil},
		{"known to be late", delayed, mosquitto, ms(5900), false, nil, []string{delaysLate.name}, nil},
		{"later than known", delayed, mosquitto, ms(6100), true, []string{"4.10 s late"}, nil, nil},
		{"late elsewhere", delayed, foreign, ms(5900), false, []string{"3.90 s late"}, nil, nil},
		{"known departures", silent, mosquitto, and(ms(), noTakeover), false, nil, []string{cleanStartSilent.name, takeoverSilent.name}, nil},
		{"one of them only", silent, mosquitto, and(ms(2000), noTakeover), false, nil, []string{takeoverSilent.name}, []string{cleanStartSilent.name}},
		{"none any more", silent, mosquitto, and(ms(2000), sawTakeover), false, nil, nil, []string{cleanStartSilent.name, takeoverSilent.name}},
		{"something else", silent, mosquitto, and(ms(2000), "?"), true, []string{`saw ["?"], expected ["0x8E sent"]`}, nil, []string{cleanStartSilent.name}},
		{"known, but not of this one", silent, ours, and(ms(), noTakeover), true, []string{"no will, expected will after 2 s", `saw ["0x8E not sent"], expected ["0x8E sent"]`}, nil, nil},
		{"not played", delayed, ours, outcome{err: errors.New("the sky fell")}, true, []string{"the sky fell"}, nil, nil},
	} {
		v := judge(tt.c, tt.b, tt.o)
		if v.failed(tt.b) != tt.failed || !slices.Equal(v.wrong, tt.wrong) || !slices.Equal(v.known, tt.known) || !slices.Equal(v.mended, tt.mended) {
			t.Errorf("%s: failed %t, wrong %q, known %q, mended %q", tt.name, v.failed(tt.b), v.wrong, v.known, v.mended)
		}
	}
}

func TestTheTableNamesWhatDeparts(t *testing.T) {
	c := &scenario{name: "c", rule: "r", wills: at(0), facts: []string{sawTakeover}, known: []departure{takeoverSilent, cleanStartSilent}}
	ours, mosquitto := &broker{name: oursName, late: time.Second}, &broker{name: "mosquitto 9", late: time.Second, known: true}
	row := func(o, m outcome) (string, bool) {
		var out strings.Builder
		good := table(&out, []*scenario{c}, []string{oursName, "mosquitto 9"}, []*broker{ours, mosquitto},
			[][]verdict{{judge(c, ours, o)}, {judge(c, mosquitto, m)}}, "")
		return out.String(), good
	}
	right := outcome{wills: at(0), facts: []string{sawTakeover}}
	text, good := row(right, outcome{wills: at(0), facts: []string{noTakeover}})
	for _, want := range []string{
		"✓ will after 0.0 s; 0x8E sent", "◐ 1 will after 0.0 s; 0x8E not sent",
		"◐ 1  mosquitto 2.0.11: " + takeoverSilent.name,
		"did not happen (that is no failure): c: " + cleanStartSilent.name,
		"in-process: 1 right, 0 known departures, 0 wrong", "mosquitto 9: 0 right, 1 known departures, 0 wrong",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if !good {
		t.Error("a known departure fails the program")
	}
	if text, good := row(outcome{}, right); good || !strings.Contains(text, "✗ 1 2 no will") || !strings.Contains(text, "✗ 1  c: no will, expected will at once") {
		t.Errorf("in-process may be wrong: %t\n%s", good, text)
	}
	if text, good := row(right, outcome{wills: at(0), facts: []string{"?"}}); good || !strings.Contains(text, "0 known departures, 1 wrong") {
		t.Errorf("mosquitto may do anything: %t\n%s", good, text)
	}
	if text, good := row(outcome{err: errors.New("the sky fell")}, right); good || !strings.Contains(text, "✗ 1  c: the sky fell") {
		t.Errorf("a case that is not played passes: %t\n%s", good, text)
	}
}

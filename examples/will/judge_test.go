package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	local := &broker{name: inProcessName, late: time.Second}
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
		name                string
		c                   *scenario
		b                   *broker
		o                   outcome
		failed              bool
		wrong, known, fixed []string
	}{
		{"right", delayed, local, ms(2000), false, nil, nil, nil},
		{"right at the end of the tolerance", delayed, local, ms(3000), false, nil, nil, nil},
		{"late", delayed, local, ms(3001), true, []string{"1.00 s late"}, nil, nil},
		{"early", delayed, local, ms(1999), true, []string{"0.00 s early"}, nil, nil},
		{"early within the tick", delayed, mosquitto, ms(1991), false, nil, nil, nil},
		{"earlier than the tick", delayed, mosquitto, ms(1980), true, []string{"0.02 s early"}, nil, nil},
		{"twice", delayed, local, ms(2000, 2100), true, []string{"Will Message after 2.0 s, Will Message after 2.1 s, expected Will Message after 2 s"}, nil, nil},
		{"no will", delayed, local, ms(), true, []string{"no Will Message, expected Will Message after 2 s"}, nil, nil},
		{"late within a known departure", delayed, mosquitto, ms(5900), false, nil, []string{delaysLate.name}, nil},
		{"later than the known departure", delayed, mosquitto, ms(6100), true, []string{"4.10 s late"}, nil, nil},
		{"late with another broker", delayed, foreign, ms(5900), false, []string{"3.90 s late"}, nil, nil},
		{"known departures", silent, mosquitto, and(ms(), noTakeover), false, nil, []string{cleanStartSilent.name, takeoverSilent.name}, nil},
		{"one of the known departures", silent, mosquitto, and(ms(2000), noTakeover), false, nil, []string{takeoverSilent.name}, []string{cleanStartSilent.name}},
		{"known departures did not happen", silent, mosquitto, and(ms(2000), sawTakeover), false, nil, nil, []string{cleanStartSilent.name, takeoverSilent.name}},
		{"something else", silent, mosquitto, and(ms(2000), "?"), true, []string{`saw ["?"], expected ["the server sends 0x8E"]`}, nil, []string{cleanStartSilent.name}},
		{"known departures of another broker", silent, local, and(ms(), noTakeover), true, []string{"no Will Message, expected Will Message after 2 s", `saw ["the server does not send 0x8E"], expected ["the server sends 0x8E"]`}, nil, nil},
		{"not run", delayed, local, outcome{err: errors.New("no connection")}, true, []string{"no connection"}, nil, nil},
	} {
		v := judge(tt.c, tt.b, tt.o)
		if v.failed(tt.b) != tt.failed || !slices.Equal(v.wrong, tt.wrong) || !slices.Equal(v.known, tt.known) || !slices.Equal(v.fixed, tt.fixed) {
			t.Errorf("%s: failed %t, wrong %q, known %q, fixed %q", tt.name, v.failed(tt.b), v.wrong, v.known, v.fixed)
		}
	}
}

func TestTable_NamesDepartures(t *testing.T) {
	c := &scenario{name: "c", rule: "r", wills: at(0), facts: []string{sawTakeover}, known: []departure{takeoverSilent, cleanStartSilent}}
	local, mosquitto := &broker{name: inProcessName, late: time.Second}, &broker{name: "mosquitto 9", late: time.Second, known: true}
	row := func(o, m outcome) (string, bool) {
		var out strings.Builder
		good := table(&out, []*scenario{c}, []string{inProcessName, "mosquitto 9"}, []*broker{local, mosquitto},
			[][]verdict{{judge(c, local, o)}, {judge(c, mosquitto, m)}}, "")
		return out.String(), good
	}
	right := outcome{wills: at(0), facts: []string{sawTakeover}}
	text, good := row(right, outcome{wills: at(0), facts: []string{noTakeover}})
	for _, want := range []string{
		"✓ Will Message after 0.0 s; the ", "◐ 1 Will Message after 0.0 s; the\n", " server sends 0x8E ", " server does not send 0x8E\n",
		"◐ 1  mosquitto 2.0.11: " + takeoverSilent.name,
		"did not happen, which is not a failure: c: " + cleanStartSilent.name,
		"in-process: 1 right, 0 known departures, 0 wrong", "mosquitto 9: 0 right, 1 known departures, 0 wrong",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if !good {
		t.Error("a known departure is a failure")
	}
	if text, good := row(outcome{}, right); good || !strings.Contains(text, "✗ 1 2 no Will Message") || !strings.Contains(text, "✗ 1  c: no Will Message, expected Will Message at once") {
		t.Errorf("a wrong result of the in-process broker: good is %t\n%s", good, text)
	}
	if text, good := row(right, outcome{wills: at(0), facts: []string{"?"}}); good || !strings.Contains(text, "0 known departures, 1 wrong") {
		t.Errorf("an unknown departure of mosquitto: good is %t\n%s", good, text)
	}
	if text, good := row(outcome{err: errors.New("no connection")}, right); good || !strings.Contains(text, "✗ 1  c: no connection") {
		t.Errorf("a case that did not run: good is %t\n%s", good, text)
	}
}

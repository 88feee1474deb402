package wire_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// slowMatch implements section 4.7 literally: it compares the lists of levels one by one.
func slowMatch(filter, topic string) bool {
	if strings.HasPrefix(filter, "$share/") {
		filter = strings.SplitN(filter, "/", 3)[2]
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if topic[0] == '$' && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return len(t) >= i // the parent level matches too
		}
		if i >= len(t) || level != "+" && level != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

func TestMatch_SpecificationExamples(t *testing.T) {
	for _, tt := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"#", "a/b/c", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/tennis/#", "x/tennis", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/monitor", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"ACCOUNTS", "Accounts", false},
		{"/finance", "finance", false},
		{"$share/consumer/sport/#", "sport/a", true},
		{"$share/consumer//finance", "/finance", true},
		{"$share/consumer/#", "$SYS/monitor", false},
	} {
		if got := wire.Match(tt.filter, tt.topic); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.filter, tt.topic, got)
		}
	}
}

func TestMatch_AgreesWithModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(levels []string, n int) string {
		s := make([]string, 1+r.IntN(n))
		for i := range s {
			s[i] = levels[r.IntN(len(levels))]
		}
		return strings.Join(s, "/")
	}
	matched := 0
	for range 200_000 {
		filter := pick([]string{"", "a", "b", "$a", "+", "+", "#"}, 5)
		topic := pick([]string{"", "a", "b", "$a"}, 5)
		if topic == "" || wire.CheckTopicFilter(filter) != nil {
			continue
		}
		if r.IntN(4) == 0 {
			filter = "$share/g/" + filter
		}
		want := slowMatch(filter, topic)
		if got := wire.Match(filter, topic); got != want {
			t.Fatalf("Match(%q, %q) = %v, the model says %v", filter, topic, got, want)
		}
		if want {
			matched++
		}
	}
	if matched < 1000 {
		t.Errorf("only %d pairs matched: the test says little", matched)
	}
}

func TestCheckTopicFilter(t *testing.T) {
	for _, good := range []string{"#", "+", "/", "a", "a/#", "+/a/#", "a/+/b", "+/+", "//", "$share/g/a", "$share/g/#", "$share/g//", "$SYS/#", " ", "$share"} {
		if err := wire.CheckTopicFilter(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a#", "sport/tennis#", "sport/tennis/#/ranking", "sport+", "a/+b", "##", "#/", "$share/", "$share/g", "$share/g/",
		"$share//a", "$share/+/a", "$share/#/a", "$share/g/a#", "a\x00", "\xFF", strings.Repeat("a", wire.MaxString+1)} {
		if _, ok := wire.CheckTopicFilter(bad).(*wire.FieldError); !ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestCheckTopicName(t *testing.T) {
	for _, good := range []string{"a", "/", "a//b", "$SYS/x", " ", "温度", strings.Repeat("a", wire.MaxString)} {
		if err := wire.CheckTopicName("Topic Name", good); err != nil {
			t.Errorf("%.20q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "+", "a/#", "a+b", "\x00", "\xED\xA0\x80", strings.Repeat("a", wire.MaxString+1)} {
		if f, ok := wire.CheckTopicName("Topic Name", bad).(*wire.FieldError); !ok || f.Field != "Topic Name" {
			t.Errorf("%.20q was accepted", bad)
		}
	}
}

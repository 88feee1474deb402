package metrics

import (
	"strings"
	"testing"
)

func TestSources_ReadThisMachine(t *testing.T) {
	sources := Sources()
	if len(sources) < 3 {
		t.Fatalf("only %d sources", len(sources))
	}
	for _, s := range sources {
		readings, err := s.Read()
		if err != nil {
			t.Logf("%s cannot be read here: %v", s.Name, err)
			continue
		}
		for _, r := range readings {
			if r.Name == "" || strings.ContainsAny(r.Name, "+#\x00") {
				t.Errorf("%s: %q cannot be part of a topic", s.Name, r.Name)
			}
		}
	}
}

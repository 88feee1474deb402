package readme

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	section   = regexp.MustCompile(`^\d(\.\d+)+(, \d(\.\d+)+)*$`)
	sentences = regexp.MustCompile(`\. [A-Z]`)
)

// TestVocabulary: docs/vocabulary.md has the terms in alphabetical order, each with one to
// three sentences and something to read, and MQTT terms with their sections. The names of
// code exist, and it has the terms that other documents use without an explanation.
func TestVocabulary(t *testing.T) {
	rows := tables(t, documents(t)["docs/vocabulary.md"], map[string]map[string]bool{})
	terms, previous := map[string]bool{}, row{}
	for _, r := range rows {
		term, meaning := r.cells[0], r.cells[1]
		if r.section == previous.section && strings.ToLower(term) <= strings.ToLower(previous.cells[0]) {
			t.Errorf("%s is not in order", term)
		}
		if previous = r; !strings.HasSuffix(meaning, ".") || len(sentences.FindAllString(meaning, -1)) > 2 {
			t.Errorf("%s: want one to three sentences, not %q", term, meaning)
		}
		if r.section == "Terms of MQTT" && !section.MatchString(r.cells[2]) {
			t.Errorf("%s: %q is not a section", term, r.cells[2])
		}
		if more := r.cells[len(r.cells)-1]; more == "" && term != "server, broker" {
			t.Errorf("%s: nothing to read", term)
		}
		for _, name := range strings.Split(term, ", ") {
			terms[name] = true
		}
	}
	for _, want := range []string{"accepted", "outcome", "receipt", "store", "outbox", "log", "segment", "epoch", "publisher", "sequence number", "dead letter",
		"set aside", "deferred", "degraded", "gap", "birth", "offline status", "status topic", "takeover", "session", "in-flight", "watermark", "dedupe key",
		"claim", "commit", "worker", "server", "broker", "status message"} {
		if !terms[want] {
			t.Errorf("there is no %q", want)
		}
	}
	if !slices.ContainsFunc(rows, func(r row) bool { return r.section == "Terms of MQTT" }) {
		t.Error("there are no terms of MQTT")
	}
}

package readme

import (
	"strings"
	"testing"
)

// tutorialClasses are the classes of the tutorials that docs/patterns.md compares with mooring.
var tutorialClasses = []string{"DeduplicatedMQTTHandler", "QoS2StateManager", "SessionManager", "OrderedMQTTPublisher", "SequentialMQTTHandler",
	"RetainedMessageManager", "FilePersistentStore", "ReliableMQTTClient", "MQTTCircuitBreaker"}

// TestNames: docs/patterns.md has a section for each name, with a short program, a
// comparison with the tutorial code, and a test. TestPatterns checks that the test exists, and
// TestGoBlocks_Compile that the program compiles.
func TestNames(t *testing.T) {
	_, rest, _ := strings.Cut(documents(t)["docs/patterns.md"], "\n## By name\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	sections := map[string]string{}
	for _, section := range strings.Split(rest, "\n### ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		sections[name] = text
	}
	for _, name := range tutorialClasses {
		text := sections[name]
		if list := blocks(name, text); len(list) != 1 || strings.Count(list[0].code, "\n") > 20 {
			t.Errorf("%s: want one Go block of at most 20 lines", name)
		}
		_, shown, _ := strings.Cut(text, "\nShown by ")
		if !strings.Contains(text, "\nThe tutorial code ") || !strings.Contains(shown, ".Test") {
			t.Errorf("%s: want a comparison with the tutorial code, and a test", name)
		}
	}
	if len(sections) != len(tutorialClasses) {
		t.Errorf("%d sections for %d names", len(sections), len(tutorialClasses))
	}
}

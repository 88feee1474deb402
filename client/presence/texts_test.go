package presence

import (
	"fmt"
	"testing"
)

func TestTextsAreKeptOnce(t *testing.T) {
	texts := texts{}
	for i := range 2 * maxTexts {
		if text := fmt.Sprint(i); texts.one(text) != text {
			t.Fatal(text)
		}
	}
	if len(texts) != maxTexts {
		t.Errorf("%d texts are kept", len(texts))
	}
}

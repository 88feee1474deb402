package main

import (
	"strings"
	"testing"
	"time"
)

// TestBrowser_FitsAndIsAccessible: at each width, in light and dark, and in each view, the page has no
// overflow, no cut text, enough contrast (WCAG AA) and named controls. Tab reaches each kind of control.
func TestBrowser_FitsAndIsAccessible(t *testing.T) {
	s, b, _ := browse(t)
	stranger(t, s, s.place.topic(strings.Repeat("long-name-", 8), "status"), `{"state":"offline"}`, true)
	within(t, time.Minute, "the device with the long name is shown", func() bool { return script[int](b, cells) == 25 })
	look := func(view string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			for _, width := range widths {
				b.size(width, 900)
				for _, wrong := range script[[]string](b, flaws) {
					t.Errorf("%s, %s, %d pixels: %s", view, scheme, width, wrong)
				}
			}
		}
	}
	look("grid")
	script[any](b, `document.querySelector('#problems-list button').click()`)
	look("details")
	script[any](b, `document.getElementById("d-close").click(); document.getElementById("as-table").click()`)
	look("table")
	script[any](b, `document.getElementById("as-grid").click()`)

	b.size(1600, 900)
	script[any](b, `document.activeElement.blur(); window.scrollTo(0, 0)`)
	reached := map[string]bool{}
	for range 25 {
		for _, kind := range []string{"rawKeyDown", "keyUp"} {
			b.devtools("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9})
		}
		reached[script[string](b, `const n = document.activeElement; return n.id || n.parentElement?.parentElement?.id || n.getAttribute("href") || n.dataset.state || ""`)] = true
	}
	for _, control := range []string{"#problems", "#fleet", "random", "cut-backend", "restart-broker", "problems-list", "search", "losing", "sort", "as-grid", "as-table", "grid"} {
		if !reached[control] {
			t.Errorf("Tab does not reach %q, only %v", control, reached)
		}
	}
	s.faults.cutBackend(time.Hour)
	within(t, time.Minute, "the devices are stale", func() bool { return text(b, `[data-state="3"] b`) == "24" })
	look("disconnected")
	s.faults.mendBackend(true)
}

// flaws returns what is wrong with the layout and the text of the page.
const flaws = `const wrong = [], pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const rgba = (color) => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = color; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
	const luminance = (c) => { const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
	const background = (n) => { for (; n; n = n.parentElement) { const c = rgba(getComputedStyle(n).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
	const name = (n) => n.tagName + "#" + n.id + "." + n.className + " " + n.textContent.slice(0, 30);
	if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is " + document.documentElement.scrollWidth + " pixels wide");
	const skip = ".hidden, .symbols, .skip, [hidden], noscript, script, svg";
	for (const n of document.querySelectorAll("body *")) {
		if (n.closest(skip) || n.clientWidth === 0) continue;
		if (n.scrollWidth > n.clientWidth + 1) wrong.push("cut or outside: " + name(n));
		if (["hidden", "clip"].includes(getComputedStyle(n).overflowY) && n.scrollHeight > n.clientHeight + 1) wrong.push("cut below: " + name(n));
		if (n.matches("button, input, select") && !n.textContent.trim() && !n.labels?.length) wrong.push("without a name: " + name(n));
	}
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const n = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || n.closest(skip) || n.closest("button:disabled") || n.getClientRects().length === 0) continue;
		const [a, z] = [luminance(rgba(getComputedStyle(n).color)), luminance(background(n))].sort((x, y) => y - x);
		if ((a + 0.05) / (z + 0.05) < 4.5) wrong.push("contrast " + ((a + 0.05) / (z + 0.05)).toFixed(1) + ": " + name(n));
	}
	return wrong`

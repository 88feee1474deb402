package main

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// widths are the widths in pixels at which the tests look at the page: a phone, half a screen, a screen.
var widths = []int{400, 900, 1600}

// small returns options for a fleet without faults whose states change soon.
func small() options {
	o := defaults()
	o.devices, o.calm, o.every, o.staleAfter = 24, true, 100*time.Millisecond, time.Second
	return o
}

// browse opens the page of a small fleet and waits until all devices are online.
func browse(t *testing.T) (*simulation, *browser, string) {
	t.Helper()
	s, url := served(t, small())
	b := startBrowser(t)
	b.size(1280, 800)
	b.open(url)
	within(t, time.Minute, "all devices are online", func() bool { return text(b, "#n-online") == "24 of 24" })
	return s, b, url
}

// text returns the text that an element shows, with its words separated by single spaces.
func text(b *browser, selector string) string {
	b.t.Helper()
	return strings.Join(strings.Fields(script[string](b, `return document.querySelector(arguments[0])?.innerText ?? ""`, selector)), " ")
}

// axes is what a plot shows beside its line. Each rectangle has left, top, right and bottom.
type axes struct {
	Caption     string
	Y, X        []string
	RectY       [][4]float64
	RectX       [][4]float64
	Figure      [4]float64
	Font        float64 // smallest, in pixels
	Line, H     float64 // height of the right end of the line, and height of the canvas
	Description string
}

const readAxes = `const f = document.getElementById("f-" + arguments[0]), c = f.querySelector("canvas");
	const rect = (n) => { const r = n.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
	const y = [...f.querySelectorAll(".y span")], x = [...f.querySelectorAll(".x time")];
	const copy = document.createElement("canvas"), hex = getComputedStyle(c).getPropertyValue("--plot").trim();
	[copy.width, copy.height] = [c.width, c.height];
	const pen = copy.getContext("2d", {willReadFrequently: true});
	pen.drawImage(c, 0, 0);
	const want = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
	let line = -1;
	for (let row = 0; row < c.height && line < 0; row++) {
		const d = pen.getImageData(c.width - 3, row, 1, 1).data;
		if (d[3] > 150 && want.every((v, k) => Math.abs(d[k] - v) < 40)) line = row;
	}
	return {caption: f.querySelector(".unit").innerText, y: y.map((n) => n.innerText), x: x.map((n) => n.innerText), rectY: y.map(rect), rectX: x.map(rect), figure: rect(f),
		font: Math.min(...[...y, ...x].map((n) => parseFloat(getComputedStyle(n).fontSize))), line, h: c.height, description: c.getAttribute("aria-label")}`

// TestBrowser_PlotsHaveAxes: both axes of each plot have values with units, which do not overlap.
func TestBrowser_PlotsHaveAxes(t *testing.T) {
	_, b, _ := browse(t)
	within(t, time.Minute, "the plot of the online devices ends at 24", func() bool { return strings.HasPrefix(text(b, "#v-online"), "24 devices") })
	number := regexp.MustCompile(`^([\d,]+)(.*)$`)
	for _, width := range widths {
		b.size(width, 900)
		time.Sleep(200 * time.Millisecond) // the page draws again
		for key, unit := range map[string]string{"online": "devices", "rate": "/s", "p99": "ms", "backlog": "readings"} {
			a := script[axes](b, readAxes, key)
			if key == "p99" && len(a.Y) > 0 && strings.HasSuffix(a.Y[0], " s") {
				unit = "s" // the machine is busy
			}
			var values []float64
			for _, label := range a.Y {
				m := number.FindStringSubmatch(label)
				if m == nil || strings.TrimSpace(m[2]) != unit && !(m[2] == "" && strings.HasPrefix(a.Caption, unit)) {
					t.Fatalf("%d pixels, %s: %q is not a value in %s", width, key, label, unit)
				}
				v, _ := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", ""), 64)
				values = append(values, v)
			}
			if len(values) < 3 || values[len(values)-1] != 0 || !slices.IsSortedFunc(values, func(x, y float64) int { return int(y - x) }) {
				t.Errorf("%d pixels, %s: the vertical axis is %q", width, key, a.Y)
			}
			if key == "online" {
				want := 7 + (1-24/values[0])*(a.H-14)
				within(t, 20*time.Second, fmt.Sprintf("%d pixels: the line ends at height %.0f, which is 24 on the axis %q", width, want, a.Y), func() bool {
					a = script[axes](b, readAxes, key) // the line may still rise
					return math.Abs(a.Line-want) <= 3
				})
			}
			if len(a.X) < 2 || !slices.IsSorted(a.X) || !regexp.MustCompile(`^\d\d:\d\d:\d\d$`).MatchString(a.X[0]) {
				t.Errorf("%d pixels, %s: the time axis is %q", width, key, a.X)
			}
			for i, r := range append(slices.Clone(a.RectY), a.RectX...) {
				if r[0] < a.Figure[0] || r[1] < a.Figure[1] || r[2] > a.Figure[2] || r[3] > a.Figure[3] {
					t.Errorf("%d pixels, %s: value %d is outside of the plot", width, key, i)
				}
			}
			for i := 1; i < len(a.RectY); i++ {
				if a.RectY[i][1] < a.RectY[i-1][3]-1 {
					t.Errorf("%d pixels, %s: %q and %q overlap", width, key, a.Y[i-1], a.Y[i])
				}
			}
			for i := 1; i < len(a.RectX); i++ {
				if a.RectX[i][0] < a.RectX[i-1][2]+4 {
					t.Errorf("%d pixels, %s: %q and %q overlap", width, key, a.X[i-1], a.X[i])
				}
			}
			if a.Font < 11 || !strings.Contains(a.Description, "Axis from 0 to ") {
				t.Errorf("%d pixels, %s: %v pixels high, described as %q", width, key, a.Font, a.Description)
			}
		}
	}
}

// TestBrowser_ListsProblemsFirst: devices with problems are above all other devices, the most severe
// first. A fleet without problems takes one line.
func TestBrowser_ListsProblemsFirst(t *testing.T) {
	s, b, _ := browse(t)
	within(t, time.Minute, "no problem is shown", func() bool { return text(b, "#problems") == "Problems None. All 24 devices are online." })
	if n := script[int](b, `return document.querySelectorAll("#problems.calm, #problems button:not([hidden])").length`); n != 1 {
		t.Errorf("the list of problems is not calm: %d", n)
	}
	topic := func(name, what string) string { return s.place.topic(name, what) }
	stranger(t, s, topic("a-late", "status"), `{"state":"online","interval":1}`, true)
	stranger(t, s, topic("b-full", "status"), `{"state":"online"}`, true)
	stranger(t, s, topic("b-full", "stats"), `{"dropped":1}`, false)
	stranger(t, s, topic("b-full", "stats"), `{"dropped":1234}`, false)
	stranger(t, s, topic("c-new", "readings"), fmt.Sprintf(`{"value":1,"at":%d}`, time.Now().UnixNano()), false)
	if err := s.faults.byHand("pump-0001", "off"); err != nil {
		t.Fatal(err)
	}
	const list = `return [...document.querySelectorAll("#problems-list button")].map((n) => n.dataset.name + " " + n.className).join(", ")`
	within(t, time.Minute, "the problems are shown in order", func() bool {
		return script[string](b, list) == "b-full losing, pump-0001 offline, a-late stale, c-new unknown"
	})
	if got, want := text(b, "#problems-title")+": "+text(b, "#problems-text"), "Problems: 4 devices: 1 losing readings, 1 offline, 1 stale, 1 unknown"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := text(b, `#problems-list [data-name="b-full"]`); !strings.Contains(got, "losing readings (1,234 lost so far)") {
		t.Errorf("%q does not have the lost readings", got)
	}
	if got := text(b, "#n-dropped"); got != "1,234 readings" {
		t.Errorf("lost: %q", got)
	}
	for _, width := range widths {
		b.size(width, 900)
		if !script[bool](b, `const top = (id) => document.getElementById(id).getBoundingClientRect().top; return top("problems") < top("grid") && top("problems") < top("f-online")`) {
			t.Errorf("at %d pixels the problems are not first", width)
		}
	}
	script[any](b, `document.querySelector('#problems-list [data-name="pump-0001"]').click()`)
	if got := text(b, "#d-name"); got != "pump-0001" {
		t.Errorf("the details are of %q", got)
	}
	script[any](b, `document.querySelector('[data-fault="mend"]').click(); document.getElementById("d-close").click()`)
	within(t, time.Minute, "the repaired device is not in the list", func() bool { return !strings.Contains(script[string](b, list), "pump-0001") })

	for i := range 12 { // more than the list holds
		if err := s.faults.byHand(s.devices[i].name, "off"); err != nil {
			t.Fatal(err)
		}
	}
	within(t, time.Minute, "the list names the number of all problems", func() bool { return text(b, "#problems-all") == "Show all 15 in the list of devices" })
	script[any](b, `document.getElementById("problems-all").click()`)
	within(t, time.Minute, "the list of devices has the problems first", func() bool {
		return script[bool](b, `const all = [...document.querySelectorAll("#grid button")]; return all.slice(0, 15).every((n) => n.className !== "online") && all.slice(15).every((n) => n.className === "online")`)
	})
}

// TestBrowser_KeepsLastKnownNumbers: while the backend is disconnected, the page shows the last known
// numbers and their age, also after it is loaded again.
func TestBrowser_KeepsLastKnownNumbers(t *testing.T) {
	s, b, url := browse(t)
	numbers := []string{"#n-online", "#n-rate", "#n-p50", "#n-p99", "#n-backlog", "#n-dropped", "#n-reconnects"}
	const cell = `#grid button[data-name="pump-0001"] .more`
	latency := regexp.MustCompile(`^[\d.]+ m?s$`)
	within(t, time.Minute, "the numbers are shown", func() bool {
		return latency.MatchString(text(b, "#n-p50")) && latency.MatchString(text(b, cell)) && !strings.HasPrefix(text(b, "#n-rate"), "0 ")
	})
	s.faults.cutBackend(time.Hour)
	aged := regexp.MustCompile(`^last known, ((\d+) min )?(\d+) s ago$`)
	age := func(words string) int {
		m := aged.FindStringSubmatch(words)
		if m == nil {
			return -1
		}
		minutes, _ := strconv.Atoi(m[2])
		seconds, _ := strconv.Atoi(m[3])
		return 60*minutes + seconds
	}
	const notes = `return [...document.querySelectorAll(".numbers .note")].map((n) => n.textContent)`
	check := func(when string) (oldest int) {
		t.Helper()
		within(t, time.Minute, when+": the devices are stale", func() bool { return text(b, `[data-state="3"] b`) == "24" })
		within(t, time.Minute, when+": the numbers have an age", func() bool {
			all := script[[]string](b, notes)
			return len(all) == len(numbers) && !slices.ContainsFunc(all, func(n string) bool { return age(n) < 1 })
		})
		if got := text(b, "#n-online"); got != "24 of 24" {
			t.Errorf("%s: online: %q", when, got)
		}
		for _, id := range numbers {
			if got := text(b, id); got == "" || strings.HasPrefix(got, "–") || strings.HasPrefix(got, "0 ") && (id == "#n-rate" || id == "#n-p50") {
				t.Errorf("%s: %s is %q", when, id, got)
			}
		}
		if got := text(b, cell); !latency.MatchString(got) {
			t.Errorf("%s: the device shows %q", when, got)
		}
		for _, key := range []string{"online", "rate", "p99", "backlog"} {
			if got := text(b, "#v-"+key); !regexp.MustCompile(`^[\d.,]+.* s ago$`).MatchString(got) || strings.HasPrefix(got, "0/s") {
				t.Errorf("%s: the plot %s shows %q", when, key, got)
			}
		}
		if got := text(b, "#link-text"); !strings.Contains(got, "last known") {
			t.Errorf("%s: the banner is %q", when, got)
		}
		return age(script[[]string](b, notes)[0])
	}
	first := check("disconnected")
	within(t, time.Minute, "the age grows", func() bool { return age(script[[]string](b, notes)[0]) > first })
	b.open(url)
	check("loaded again")
	s.faults.mendBackend(true)
	within(t, time.Minute, "the numbers are current again", func() bool {
		return text(b, `[data-state="1"] b`) == "24" && !strings.Contains(strings.Join(script[[]string](b, notes), ""), "ago")
	})
}

// TestBrowser_NamesPeriods: each percentile has its period beside it.
func TestBrowser_NamesPeriods(t *testing.T) {
	_, b, _ := browse(t)
	period := fmt.Sprintf("of the last %.0f s", window.Seconds())
	script[any](b, `document.querySelector('#grid button').click(); document.getElementById("as-table").click()`)
	for what, want := range map[string]string{
		".numbers div:has(> #n-p50)": "Latency, median .* " + period,
		".numbers div:has(> #n-p99)": "Latency, 99th percentile .* " + period,
		"#f-p99 figcaption":          "Latency 99th percentile of each second",
		"#d-facts":                   "Latency, median " + period + " .* Latency, 99th percentile " + period,
		"caption":                    "Latencies " + period,
		".legend":                    "median latency " + period,
	} {
		within(t, time.Minute, what+" names the period", func() bool { return regexp.MustCompile(want).MatchString(text(b, what)) })
	}
}

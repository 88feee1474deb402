package main

import (
	"bytes"
	"flag"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var screens = flag.String("screens", "", "folder for screenshots of the page, in light and dark, from a phone to a wide screen")

// served starts a simulation and serves its page.
func served(t *testing.T, o options) (s *simulation, url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s, err = newSimulation(o); err != nil {
		t.Fatal(err)
	}
	w := startServer(l, s)
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + l.Addr().String()
}

// These scripts read the state of the page.
const (
	cells   = `return document.querySelectorAll("#grid button").length`
	stateOf = `return document.querySelector('#grid button[data-name="' + arguments[0] + '"]')?.className ?? ""`
	onlineN = `return document.getElementById("n-online").firstElementChild?.textContent ?? ""`
	banner  = `return document.getElementById("link").dataset.kind`
	// drawn counts the pixels of a plot that have approximately the color of its line.
	drawn = `const c = document.getElementById(arguments[0]), hex = getComputedStyle(c).getPropertyValue("--plot").trim();
		const want = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
		const copy = document.createElement("canvas"); // the canvas of the page is slow to read
		[copy.width, copy.height] = [c.width, c.height];
		const pen = copy.getContext("2d", {willReadFrequently: true});
		pen.drawImage(c, 0, 0);
		const d = pen.getImageData(0, 0, c.width, c.height).data;
		let n = 0;
		for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200 && want.every((v, k) => Math.abs(d[i + k] - v) < 24)) n++;
		return n`
)

// TestThePageInABrowser operates the page in Chromium.
func TestThePageInABrowser(t *testing.T) {
	o := defaults()
	o.calm = true
	s, url := served(t, o)
	b := startBrowser(t)
	b.size(1280, 800)
	b.open(url)

	within(t, time.Minute, "200 devices are shown", func() bool { return script[int](b, cells) == 200 })
	within(t, time.Minute, "all of them are online", func() bool { return script[string](b, onlineN) == "200" })
	if kind := script[string](b, banner); kind != "good" {
		t.Errorf("the banner is %q without faults", kind)
	}
	for _, plot := range []string{"p-online", "p-rate", "p-p99"} {
		within(t, time.Minute, plot+" is drawn", func() bool { return script[int](b, drawn, plot) > 10 })
	}

	// Take down the link of a device with a button.
	const name = "oven-0008"
	script[any](b, `document.querySelector('#grid button[data-name="' + arguments[0] + '"]').click()`, name)
	if got := script[string](b, `return document.getElementById("d-name").textContent`); got != name {
		t.Errorf("the details are of %q", got)
	}
	if got := script[string](b, `return document.activeElement.id`); got != "d-name" {
		t.Errorf("the focus is on %q, not on the details", got)
	}
	script[any](b, `document.querySelector('[data-fault="down"]').click()`)
	within(t, time.Minute, "the link of the device is down", func() bool { tr, _ := s.device(name).condition(); return tr == down })
	_, cut := s.device(name).truth()
	within(t, o.limit()+10*time.Second, "it is offline on the page", func() bool { return script[string](b, stateOf, name) == "offline" })
	t.Logf("offline on the page after %v; the limit is %v", time.Since(cut).Round(10*time.Millisecond), o.limit())
	within(t, 10*time.Second, "its last event is online → offline", func() bool {
		return strings.Contains(script[string](b, `return document.querySelector("#d-events").textContent`), "online → offline")
	})
	if *screens != "" {
		s.faults.random.Store(true)
		time.Sleep(25 * time.Second)
		shoot(t, b, *screens, "details")
	}

	// Restore the link with a button.
	script[any](b, `document.querySelector('[data-fault="mend"]').click()`)
	within(t, time.Minute, "it is online again", func() bool { return script[string](b, stateOf, name) == "online" })
	script[any](b, `document.getElementById("d-close").click()`)
	if got := script[string](b, `return document.activeElement.dataset.name`); got != name {
		t.Errorf("the focus is on %q, not on the device", got)
	}

	// Filter by name, and switch to the table.
	const typed = `const e = document.getElementById("search"); e.value = arguments[0]; e.dispatchEvent(new Event("input"))`
	script[any](b, typed, "Oven-00")
	if n := script[int](b, cells); n != 20 {
		t.Errorf("%d devices match oven-00, want 20", n)
	}
	script[any](b, `document.getElementById("as-table").click()`)
	if n := script[int](b, `return document.querySelectorAll("#rows tr").length`); n != 20 {
		t.Errorf("the table has %d rows, want 20", n)
	}
	script[any](b, typed, "no such device")
	if n := script[int](b, `return document.querySelectorAll("#rows tr").length`); n != 0 {
		t.Errorf("the table has %d rows, want none", n)
	}
	script[any](b, typed, "")
	if n := script[int](b, `return document.querySelectorAll("#rows tr").length`); n != 100 {
		t.Errorf("a page of the table has %d rows, want 100", n)
	}
	script[any](b, `document.querySelector('th[data-sort="name"] button').click()`)
	if first := script[string](b, `return document.querySelector("#rows tr").dataset.name`); first != "scale-0200" {
		t.Errorf("%q is the first name in descending order", first)
	}
	if *screens != "" {
		shoot(t, b, *screens, "table")
	}
	script[any](b, `document.getElementById("as-grid").click()`)

	// Cut the backend's link: the page warns that the states are not current.
	script[any](b, `document.getElementById("cut-backend").click()`)
	within(t, time.Minute, "the banner is bad", func() bool { return script[string](b, banner) == "bad" })
	if got := script[string](b, `return document.getElementById("alarm").textContent`); !strings.HasPrefix(got, "Out of date") || strings.Contains(got, " old") {
		t.Errorf("the alarm for screen readers is %q", got)
	}
	if n := script[int](b, `return document.querySelectorAll("#grid button.offline").length`); *screens == "" && n != 0 {
		t.Errorf("%d devices are offline because the backend is disconnected", n)
	}
	if *screens != "" {
		time.Sleep(3 * time.Second)
		shoot(t, b, *screens, "untrusted")
	}
	within(t, time.Minute, "the banner is good", func() bool { return script[string](b, banner) == "good" })
	within(t, time.Minute, "no device is stale", func() bool {
		return script[int](b, `return document.querySelectorAll("#grid button.stale").length`) == 0
	})

	// The page shows text from the network as text.
	stranger(t, s, s.place.topic(evil, "status"), `{"state":"online","reason":"<b>x</b>"}`, true)
	within(t, time.Minute, "the stranger is shown", func() bool { return script[int](b, cells) == 201 })
	script[any](b, `[...document.querySelectorAll("#grid button")].find((n) => n.dataset.name === arguments[0]).click()`, evil)
	if got := script[string](b, `return document.getElementById("d-name").textContent`); got != evil {
		t.Errorf("the stranger's name is %q", got)
	}
	within(t, 10*time.Second, "its reason is shown", func() bool {
		return strings.Contains(script[string](b, `return document.getElementById("d-facts").textContent`), "<b>x</b>")
	})
	if n, title := script[int](b, `return document.querySelectorAll("img, #side b").length`), script[string](b, "return document.title"); n != 0 || title != "Fleet board" {
		t.Errorf("its name became part of the page: %d, %q", n, title)
	}
	script[any](b, `document.getElementById("d-close").click()`)

	for _, size := range [][2]int{{1920, 1080}, {1280, 800}, {768, 1024}, {390, 844}} {
		b.size(size[0], size[1])
		if wide := script[int](b, `return document.documentElement.scrollWidth`); wide > size[0] {
			t.Errorf("at %d pixels the page is %d wide", size[0], wide)
		}
	}
	if all := b.complaints(); len(all) > 0 {
		t.Errorf("the console has:\n%s", strings.Join(all, "\n"))
	}
	if shot, err := png.Decode(bytes.NewReader(b.screenshot())); err != nil || shot.Bounds().Dx() != 390 {
		t.Errorf("no screenshot: %v", err)
	}
}

// shoot saves screenshots of the page.
func shoot(t *testing.T, b *browser, dir, name string) {
	t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		for suffix, size := range map[string][2]int{"": {1280, 800}, "-small": {390, 844}, "-medium": {768, 1024}, "-wide": {1920, 1080}} {
			b.size(size[0], size[1])
			time.Sleep(500 * time.Millisecond)
			file := filepath.Join(dir, name+"-"+scheme+suffix+".png")
			if err := os.WriteFile(file, b.screenshot(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.scheme("light")
	b.size(1280, 800)
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// page starts a small simulation, and a test server with its handler.
func page(t *testing.T, devices int) (*simulation, *httptest.Server) {
	t.Helper()
	o := defaults()
	o.devices, o.calm, o.every = devices, true, 100*time.Millisecond
	s, err := newSimulation(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(handler(s, true))
	t.Cleanup(func() {
		s.backend.board.endStreams()
		srv.Close()
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s, srv
}

// reader reads a stream of server-sent events.
type reader struct {
	t *testing.T
	r *bufio.Reader
}

func watch(t *testing.T, url string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("%s, %q", resp.Status, got)
	}
	return &reader{t, bufio.NewReader(resp.Body)}
}

// got is a frame as a browser decodes it.
type got struct {
	kind   string
	Now    int64
	Totals totals
	Link   linkState
	Rows   [][]any
	Points [][]any
	Gone   []string
}

func (r *reader) next() got {
	r.t.Helper()
	var g got
	for {
		line, err := r.r.ReadString('\n')
		if err != nil {
			r.t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "event: "):
			g.kind = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			if err := json.Unmarshal([]byte(line[len("data: "):]), &g); err != nil {
				r.t.Fatalf("%v: %.200s", err, line)
			}
		case line == "":
			return g
		default:
			r.t.Fatalf("no line of an event: %.200q", line)
		}
	}
}

func TestStream_SendsSnapshotThenChanges(t *testing.T) {
	s, srv := page(t, 3)
	within(t, time.Minute, "three devices are online", func() bool { return s.backend.board.shown().Online == 3 })
	r := watch(t, srv.URL)
	first := r.next()
	if first.kind != "snapshot" || len(first.Rows) != 3 || first.Totals.Online != 3 || !first.Link.Trusted {
		t.Fatalf("first came %+v", first)
	}
	if err := s.faults.byHand("press-0002", "off"); err != nil {
		t.Fatal(err)
	}
	state := map[string]float64{}
	for _, row := range first.Rows {
		state[row[0].(string)] = row[1].(float64)
	}
	begun, frames, points := time.Now(), 0, 0
	for state["press-0002"] != 2 { // offline
		g := r.next()
		if g.kind != "delta" {
			t.Fatalf("came a %s", g.kind)
		}
		frames++
		points += len(g.Points)
		for _, row := range g.Rows {
			state[row[0].(string)] = row[1].(float64)
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("the device is not offline")
		}
	}
	if most := int(time.Since(begun)/tickEvery) + 2; frames > most {
		t.Errorf("%d frames in %v, want at most %d", frames, time.Since(begun), most)
	}
	if state["pump-0001"] != 1 || state["oven-0003"] != 1 {
		t.Errorf("the others are %v", state)
	}
	if points > int(time.Since(begun)/time.Second)+2 {
		t.Errorf("%d points in %v", points, time.Since(begun))
	}
}

// shown returns the shown totals.
func (b *board) shown() totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last.Totals
}

// TestStream_SendsSnapshotToSlowBrowser: the queue is bounded, and the browser receives a correct
// snapshot.
func TestStream_SendsSnapshotToSlowBrowser(t *testing.T) {
	s, _ := page(t, 2)
	b := s.backend.board
	slow, err := b.subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer slow.leave()
	if all := slow.next(t.Context()); len(all) != 1 || !strings.HasPrefix(string(all[0]), "event: snapshot\n") {
		t.Fatalf("first came %.80q", all)
	}
	within(t, time.Minute, "it is too slow", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(slow.waiting) > maxWaiting {
			t.Fatalf("%d messages wait", len(slow.waiting))
		}
		return slow.resyncs > 0
	})
	if err := s.faults.byHand("pump-0001", "off"); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "the device is offline", func() bool { return b.shown().Offline == 1 })
	b.mu.Lock()
	waiting := len(slow.waiting)
	b.mu.Unlock()
	if waiting != 0 {
		t.Errorf("%d messages wait beside the snapshot", waiting)
	}
	all := slow.next(t.Context())
	if len(all) != 1 || !strings.HasPrefix(string(all[0]), "event: snapshot\n") || !strings.Contains(string(all[0]), `"offline":1`) {
		t.Fatalf("then came %.300q", all)
	}
	if all = slow.next(t.Context()); len(all) == 0 || !strings.HasPrefix(string(all[0]), "event: delta\n") {
		t.Fatalf("then came %.80q", all)
	}
}

func TestStream_LimitsNumber(t *testing.T) {
	s, srv := page(t, 0)
	for range maxStreams {
		st, err := s.backend.board.subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer st.leave()
	}
	resp, err := http.Get(srv.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
}

// stranger publishes a message of a device that is not simulated.
func stranger(t *testing.T, s *simulation, topic string, payload string, retain bool) {
	t.Helper()
	c, err := client.New(client.Config{Servers: []string{s.place.url}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := c.Publish(t.Context(), client.Message{Topic: topic, Payload: []byte(payload), QoS: client.AtLeastOnce, Retain: retain})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// evil is a device name with HTML. evilText also has a slash, which a name cannot have.
const (
	evil     = "<img src=x onerror=\"document.title='owned'\">\u2028&"
	evilText = "</script>" + evil
)

func TestServer_EscapesNamesAndReasons(t *testing.T) {
	s, srv := page(t, 0)
	status, err := json.Marshal(map[string]string{"state": "online", "reason": evilText, "version": evilText})
	if err != nil {
		t.Fatal(err)
	}
	stranger(t, s, s.place.topic(evil, "status"), string(status), true)
	within(t, time.Minute, "it is shown", func() bool { return s.backend.board.shown().Online == 1 })
	first := watch(t, srv.URL).next()
	if len(first.Rows) != 1 || first.Rows[0][0] != evil {
		t.Fatalf("the rows are %q", first.Rows)
	}
	for _, path := range []string{"/events", "/api/latest", "/api/device?name=" + strings.NewReplacer("&", "%26", " ", "%20", "\"", "%22", "\u2028", "%E2%80%A8").Replace(evil)} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+path, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body) // of a stream: the data of one second
		cancel()
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || strings.ContainsAny(string(body), "<>\u2028") {
			t.Errorf("%s: %s with %q", path, resp.Status, body)
		}
		if typ := resp.Header.Get("Content-Type"); typ == "text/html" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s is %q and may be sniffed", path, typ)
		}
	}
}

func TestServer_Requests(t *testing.T) {
	s, srv := page(t, 1)
	for _, c := range []struct {
		method, path, header, value string
		status                      int
	}{
		{"GET", "/", "", "", 200},
		{"GET", "/board.js", "", "", 200},
		{"GET", "/board.css", "", "", 200},
		{"GET", "/../server.go", "", "", 404},
		{"GET", "/nothing", "", "", 404},
		{"GET", "/api/device?name=nobody", "", "", 404},
		{"POST", "/events", "", "", 405},
		{"POST", "/api/device?name=nobody&fault=cut", "", "", 404},
		{"POST", "/api/device?name=pump-0001&fault=nonsense", "", "", 400},
		{"POST", "/api/device?name=pump-0001&fault=cut", "", "", 204},
		{"POST", "/api/device?name=pump-0001&fault=cut", "Origin", "http://evil.example", 403},
		{"POST", "/api/backend/cut", "Sec-Fetch-Site", "cross-site", 403},
		{"GET", "/", "Host", "evil.example", 403},
		{"GET", "/", "Host", "localhost:8080", 200},
	} {
		req, err := http.NewRequest(c.method, srv.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.header == "Host" {
			req.Host = c.value
		} else if c.header != "" {
			req.Header.Set(c.header, c.value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s %s %s: %s, want %d", c.method, c.path, c.header, c.value, resp.Status, c.status)
		}
		if got := resp.Header.Get("Content-Security-Policy"); got != policy {
			t.Errorf("%s %s: the policy is %q", c.method, c.path, got)
		}
	}
	if n := s.faults.counts()["links cut"]; n != 1 {
		t.Errorf("%d links were cut, want 1", n)
	}
}

// TestPage_UsesNoOtherHost: the page has no inline script or style, which the policy forbids, and no
// URL of another host.
func TestPage_UsesNoOtherHost(t *testing.T) {
	all, err := assets.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		text, err := assets.ReadFile("assets/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		page := strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", "")
		for _, bad := range []string{"http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "<style", " style=", " onclick=", "javascript:"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s has %q", f.Name(), bad)
			}
		}
	}
}

// TestBoard_IsBounded: the board keeps at most maxDevices devices, and limits the events.
func TestBoard_IsBounded(t *testing.T) {
	b := newBoard(nil, nil)
	now := time.Now()
	for i := range maxDevices + 5 {
		b.handled(fmt.Sprint("d", i), now, now)
	}
	for i := range 10 * maxEvents {
		b.did("d1", fmt.Sprint("event ", i))
	}
	if len(b.records) != maxDevices || b.refused != 5 {
		t.Errorf("%d devices are kept and %d refused", len(b.records), b.refused)
	}
	r := b.records["d1"]
	if len(r.events) != maxEvents || len(b.feed) != maxFeed || cap(r.events) > 2*maxEvents || cap(b.feed) > 2*maxFeed+10 {
		t.Errorf("%d events of %d, %d in the feed of %d", len(r.events), cap(r.events), len(b.feed), cap(b.feed))
	}
	if last := r.events[len(r.events)-1].Done; last != fmt.Sprint("event ", 10*maxEvents-1) || !slices.ContainsFunc(b.feed, func(e event) bool { return e.Done == last }) {
		t.Errorf("the newest event is %q", last)
	}
}

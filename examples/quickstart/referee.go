package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/examples/internal/results"
)

// referee collects the reports of the child processes, including the IDs of all accepted messages. It
// finds lost, duplicate and misordered messages by comparing these with the backend's file. It does
// not use mooring's counters for this.
type referee struct {
	mu       sync.Mutex
	accepted []client.MessageID
	known    map[client.MessageID]bool
	latency  []time.Duration // of Publish
	stats    string          // final counters of the device
	ready    map[string]chan string
	links    map[string]*linkWatch
	gaps     int
	suppress uint64         // duplicates that the backend's last process dropped
	notes    []string       // different ones, up to 20
	times    map[string]int // how often each note was reported
	last     string         // the last fault
	verbose  bool
}

// linkWatch measures how long one process is disconnected or not running.
type linkWatch struct {
	ups     int
	down    time.Time
	longest time.Duration
}

func newReferee() *referee {
	return &referee{
		known: map[client.MessageID]bool{},
		times: map[string]int{},
		ready: map[string]chan string{},
		links: map[string]*linkWatch{"device": {}, "backend": {}, "broker": {}},
	}
}

func (r *referee) awaitReady(name string) <-chan string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan string, 1)
	r.ready[name] = ch
	return ch
}

// listener returns the function that handles the output of a process.
func (r *referee) listener(name string) func(word, rest string) {
	return func(word, rest string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		w := r.links[name]
		if r.verbose && word != "accepted" {
			fmt.Println(time.Now().Format("15:04:05.000"), name, word, rest)
		}
		switch word {
		case "accepted":
			var id client.MessageID
			text, micros, _ := strings.Cut(rest, " ")
			var us int64
			if _, err := fmt.Sscan(micros, &us); err != nil || id.UnmarshalText([]byte(text)) != nil {
				return // incomplete line of a killed device
			}
			r.accepted = append(r.accepted, id)
			r.known[id] = true
			r.latency = append(r.latency, time.Duration(us)*time.Microsecond)
		case "up":
			w.ups++
			if !w.down.IsZero() {
				w.longest = max(w.longest, time.Since(w.down))
				w.down = time.Time{}
			}
		case "down", "exit":
			if w.down.IsZero() {
				w.down = time.Now()
			}
		case "gap":
			r.gaps++
			r.note("gap reported: " + rest)
		case "ready":
			if ch := r.ready[name]; ch != nil {
				select {
				case ch <- rest:
				default:
				}
			}
		case "stats":
			r.stats = rest
		case "received":
			var total uint64
			_, _ = fmt.Sscan(rest, &total, &r.suppress)
		case "event":
			r.note(name + ": " + rest)
		}
	}
}

// note records a text for the end of the report. mu must be held.
func (r *referee) note(text string) {
	if r.times[text] == 0 {
		if len(r.notes) == 20 {
			return
		}
		r.notes = append(r.notes, text)
	}
	r.times[text]++
}

func (r *referee) happened(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = what
	if r.verbose {
		fmt.Println(time.Now().Format("15:04:05.000"), "      ", what)
	}
}

func (s *stage) resultsPath() string { return filepath.Join(s.o.dir, "backend", "results.jsonl") }

func (s *stage) resultsSize() int64 {
	info, err := os.Stat(s.resultsPath())
	if err != nil {
		return 0
	}
	return info.Size()
}

// results returns the rows of the backend's file.
func (s *stage) results() ([]results.Row, error) {
	f, err := os.Open(s.resultsPath())
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, _, err := results.Read(f)
	return rows, err
}

// missing returns the accepted messages that are not in rows.
func (r *referee) missing(rows []results.Row) (lost []client.MessageID) {
	have := map[client.MessageID]bool{}
	for _, row := range rows {
		have[row.ID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.accepted {
		if !have[id] {
			lost = append(lost, id)
		}
	}
	return lost
}

// duplicates returns the rows whose message ID or reading is in an earlier row. The device numbers
// the readings independently of mooring.
func duplicates(rows []results.Row) (out []results.Row) {
	type reading struct {
		topic   string
		boot, n uint64
	}
	ids, readings := map[client.MessageID]bool{}, map[reading]bool{}
	for _, row := range rows {
		r := reading{row.Topic, row.Boot, row.N}
		if ids[row.ID] || readings[r] {
			out = append(out, row)
		}
		ids[row.ID], readings[r] = true, true
	}
	return out
}

// misordered returns the rows with a smaller reading number than an earlier row of the same topic.
func misordered(rows []results.Row) (out []results.Row) {
	last := map[string]results.Row{}
	seen := map[client.MessageID]bool{}
	for _, row := range rows {
		if seen[row.ID] {
			continue
		}
		seen[row.ID] = true
		before, ok := last[row.Topic]
		if ok && (row.Boot < before.Boot || row.Boot == before.Boot && row.N < before.N) {
			out = append(out, row)
			continue
		}
		last[row.Topic] = row
	}
	return out
}

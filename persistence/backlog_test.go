package persistence_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// backlogEnv sets the size of the backlog in TestBacklog. The documented figures are about 10000000
// messages, which take 3 GB in the folder for temporary files.
const backlogEnv = "MOORING_BACKLOG"

// backlogChildEnv makes the test binary run as the process whose memory is measured.
const backlogChildEnv = "MOORING_PERSISTENCE_BACKLOG_DIR"

// The limits that the test enforces. For ten million messages they are the documented figures. A
// smaller backlog also includes the fixed cost of any process.
const (
	backlogWhole    = 10_000_000
	longestOpening  = 5 * time.Second
	shortestOpening = time.Second
	mostMemory      = 200 << 20
	leastMemory     = 40 << 20
	mostBeside      = 40  // bytes on disk in addition to each packet
	leastAtTheEnd   = 0.8 // speed of draining the last messages, relative to the first ones
	leastAnyway     = 0.5 // the same for a smaller backlog, and for the first relative to the last ones
)

const (
	drainEnds = 100_000 // number of first and of last messages
	drainUnit = 5_000   // messages per measurement; the median is used
)

// backlogReport contains the measurements of the child process.
type backlogReport struct {
	Opening        time.Duration
	Resident, Peak int64   // bytes of memory: after the opening, and the peak during it
	First, Last    float64 // messages drained per second
	All            float64
}

// TestBacklog checks that a large backlog is opened quickly, takes little memory, and is drained at
// its end as fast as at its start.
func TestBacklog(t *testing.T) {
	if dir := os.Getenv(backlogChildEnv); dir != "" {
		openBacklog(t, dir)
		return
	}
	n := 2 * drainEnds
	if s := os.Getenv(backlogEnv); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 2*drainEnds {
			t.Fatalf("%s=%s: want a number of messages, %d or more", backlogEnv, s, 2*drainEnds)
		}
	}
	// Other processes may disturb the measurement, but hardly three times in a row.
	for attempt := 1; ; attempt++ {
		dir := t.TempDir()
		beside := buildBacklog(t, dir, n)
		r := runBacklogChild(t, dir)
		t.Logf("%d messages, %.1f bytes on disk beside each packet; opened in %v; %d MiB resident, %d at the peak; drained %.0f/s at the beginning, %.0f/s at the end, %.0f/s overall",
			n, beside, r.Opening, r.Resident>>20, r.Peak>>20, r.First, r.Last, r.All)
		if beside > mostBeside {
			t.Errorf("%.1f bytes on disk beside each packet, want at most %d", beside, mostBeside)
		}
		err := r.check(float64(n) / backlogWhole)
		if err == nil {
			return
		}
		if attempt == 3 {
			t.Fatal(err)
		}
		t.Log(err)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *backlogReport) check(part float64) error {
	if raceDetector() {
		return nil // most of the memory belongs to the race detector
	}
	var errs []error
	if most := shortestOpening + time.Duration(part*float64(longestOpening-shortestOpening)); r.Opening > most {
		errs = append(errs, fmt.Errorf("opened in %v, want at most %v", r.Opening, most))
	}
	if most := leastMemory + int64(part*(mostMemory-leastMemory)); r.Resident > most {
		errs = append(errs, fmt.Errorf("%d bytes resident, want at most %d", r.Resident, most))
	}
	least := leastAnyway
	if part >= 1 {
		least = leastAtTheEnd
	}
	if r.Last < least*r.First || r.First < leastAnyway*r.Last {
		errs = append(errs, fmt.Errorf("drained %.0f/s at the end, %.0f/s at the beginning", r.Last, r.First))
	}
	return errors.Join(errs...)
}

func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func backlogOptions() persistence.Options {
	return persistence.Options{Sync: persistence.SyncInterval, Limits: persistence.Limits{MaxMessages: 1 << 30, MaxBytes: 1 << 40}}
}

// buildBacklog creates the backlog. It returns how many bytes a message takes on disk in addition
// to its packet.
func buildBacklog(t *testing.T, dir string, n int) float64 {
	t.Helper()
	l, err := persistence.Open(dir, backlogOptions())
	if err == nil {
		err = errors.Join(fillLog(l, n, make([]byte, benchPacket)), l.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	size := 0.0
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += float64(info.Size())
	}
	return size/float64(n) - benchPacket
}

// fillLog enqueues n messages and makes them durable.
func fillLog(l *persistence.Log, n int, packet []byte) error {
	m := &persistence.Message{Packet: packet}
	for range n {
		if _, err := l.Enqueue(context.Background(), m); err != nil {
			return err
		}
	}
	return l.Sync()
}

func backlogReportFile(dir string) string { return filepath.Join(dir, "report.json") }

func runBacklogChild(t *testing.T, dir string) (r backlogReport) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestBacklog$")
	child.Env = append(os.Environ(), backlogChildEnv+"="+dir)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(backlogReportFile(dir))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// openBacklog runs in the child process. It opens the log, measures itself, drains the log, and
// writes its report to the folder.
func openBacklog(t *testing.T, dir string) {
	begin := time.Now()
	l, err := persistence.Open(dir, backlogOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := backlogReport{Opening: time.Since(begin), Peak: memory(t, "VmHWM")}
	debug.FreeOSMemory()
	r.Resident = memory(t, "VmRSS")

	n := l.Stats().Pending
	var units []time.Duration
	d := drainer{store: l}
	for range n / drainUnit {
		begin := time.Now()
		for range drainUnit {
			if err := d.step(); err != nil {
				t.Fatal(err)
			}
		}
		units = append(units, time.Since(begin))
	}
	ends, sum := drainEnds/drainUnit, time.Duration(0)
	for _, u := range units {
		sum += u
	}
	r.First, r.Last = medianSpeed(units[:ends]), medianSpeed(units[len(units)-ends:])
	r.All = float64(len(units)*drainUnit) / sum.Seconds()
	b, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(backlogReportFile(dir), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// drainer ends messages in their order.
type drainer struct {
	store persistence.Store
	at    persistence.Cursor
	e     persistence.Entry
}

// next reads the following message.
func (d *drainer) next() (bool, error) {
	ok, err := d.store.Next(&d.at, &d.e)
	if ok {
		d.at.Pass(&d.e)
	}
	return ok, err
}

func (d *drainer) step() error {
	ok, err := d.next()
	if err == nil && !ok {
		err = errors.New("fewer messages than there should be")
	}
	if err == nil {
		err = d.store.Done(d.e.Seq, persistence.Result{Kind: persistence.Acked})
	}
	return err
}

func medianSpeed(units []time.Duration) float64 {
	units = slices.Clone(units)
	slices.Sort(units)
	return drainUnit / units[len(units)/2].Seconds()
}

// memory returns a memory figure of this process in bytes, or 0 if the system does not provide it.
func memory(t *testing.T, what string) int64 {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), what+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatalf("no %s in /proc/self/status", what)
	return 0
}

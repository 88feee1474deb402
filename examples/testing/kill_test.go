package pump

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// killedDir is the environment variable that makes the test binary run the application.
const killedDir = "PUMP_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		application(dir) // runs until SIGKILL
	}
	os.Exit(m.Run())
}

// application reports the readings 1, 2, 3 and so on, without a broker. It prints each accepted
// reading.
func application(dir string) {
	p, err := Start(context.Background(), client.Config{Servers: []string{"mqtt://127.0.0.1:1"}, ClientID: "pump", Dir: dir})
	for i := 1; err == nil; i++ {
		if _, err = p.Report(context.Background(), fmt.Sprint(i)); err == nil {
			fmt.Println(i)
		}
	}
	log.Fatal(err)
}

func TestReport_ApplicationKilled(t *testing.T) {
	dir := t.TempDir()
	app := exec.Command(os.Args[0]) // this test binary; TestMain runs the application
	app.Env = append(os.Environ(), killedDir+"="+dir)
	out, err := app.StdoutPipe()
	must(t, err)
	must(t, app.Start())
	accepted := 0
	for lines := bufio.NewScanner(out); accepted < 10 && lines.Scan(); accepted++ {
	}
	must(t, app.Process.Kill()) // SIGKILL
	_ = app.Wait()              // the error is "signal: killed"

	folder, err := inspect.Open(dir, persistence.Options{}) // changes nothing
	must(t, err)
	pending := int(folder.Stats.Pending)
	must(t, folder.Close())
	if accepted != 10 || pending < accepted {
		t.Fatalf("%d readings are pending, but %d were accepted", pending, accepted)
	}

	b := mqtttest.Start(t)
	cfg := config(t, b.URL())
	cfg.Dir = dir
	start(t, cfg) // the same folder
	must(t, b.WaitFor(t.Context(), func() bool { return len(readings(b)) == pending }))
}

// readings returns the different readings that the broker has received.
func readings(b *mqtttest.Broker) map[string]bool {
	all := map[string]bool{}
	for _, m := range b.Messages("pump/rpm") {
		all[string(m.Payload)] = true
	}
	return all
}

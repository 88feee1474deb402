package client_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// The environment of a process that publishes one message and is killed.
const (
	killedVariable = "MOORING_TEST_KILLED" // its folder
	serverVariable = "MOORING_TEST_SERVER"
	qosVariable    = "MOORING_TEST_QOS"
	expiryVariable = "MOORING_TEST_EXPIRY"
	atOnceVariable = "MOORING_TEST_AT_ONCE" // not empty: it kills itself when its message is acknowledged
)

// publishUntilKilled is what that process does. It waits until no message is pending, and prints
// the counters of its store.
func publishUntilKilled(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	expiry, err := time.ParseDuration(os.Getenv(expiryVariable))
	fail(err)
	c, err := client.New(client.Config{Servers: []string{os.Getenv(serverVariable)}, ClientID: "killed", Dir: dir})
	fail(err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c.Start(context.Background())
	d, err := c.Publish(ctx, client.Message{Topic: "t", QoS: client.QoS(os.Getenv(qosVariable)[0] - '0'), Expiry: expiry, Payload: []byte("x")})
	fail(err)
	_, err = d.Wait(ctx)
	fail(err)
	if os.Getenv(atOnceVariable) != "" {
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
	}
	for c.Stats().Store.Pending > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	s := c.Stats()
	fmt.Printf("acked %d expired %d pending %d\n", s.Store.Acked, s.Store.Expired, s.Store.Pending)
	time.Sleep(time.Hour)
}

// A process is killed some time after its message was acknowledged. Then the next process does not
// send this message again, and reports no other outcome. If a process is killed right after the
// acknowledgement, the next process may resend the message, even if it has expired meanwhile.
func TestKilled_AfterAcknowledgement(t *testing.T) {
	for _, x := range []struct {
		name         string
		qos          int
		boots        int
		expiry       time.Duration
		sessionsLost bool
		atOnce       bool
		most         int // PUBLISH packets that the server may get; at least one for each boot
	}{
		{name: "QoS 1, several kills", qos: 1, boots: 4, most: 4},
		{name: "QoS 2, several kills", qos: 2, boots: 3, most: 3},
		{name: "QoS 2, the server loses its session", qos: 2, boots: 3, sessionsLost: true, most: 3},
		{name: "QoS 1, expired", qos: 1, boots: 2, expiry: 2 * time.Second, most: 2},
		{name: "QoS 1, expired, killed at once", qos: 1, boots: 2, expiry: 2 * time.Second, atOnce: true, most: 3},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			b := mqtttest.Start(t, mqtttest.With(mqtttest.Options{OnPacket: func(_ context.Context, dir mqtttest.Direction, id string, p []byte) {
				if dir == mqtttest.ToServer && id == "killed" && p[0]>>4 == 3 {
					sent.Add(1)
				}
			}}))
			dir := t.TempDir()
			for boot := 1; boot <= x.boots; boot++ {
				last := boot == x.boots
				line := runKilled(t, b, dir, x.qos, x.expiry, x.atOnce && !last)
				if want := fmt.Sprintf("acked %d expired 0 pending 0\n", boot); line != want && (last || !x.atOnce) {
					t.Fatalf("boot %d: %q, want %q", boot, line, want)
				}
				if x.sessionsLost {
					b.DropSessions()
				}
				if !last {
					time.Sleep(x.expiry + x.expiry/10)
				}
			}
			if n := int(sent.Load()); n < x.boots || n > x.most {
				t.Errorf("the server got %d PUBLISH packets, want %d to %d", n, x.boots, x.most)
			}
		})
	}
}

// runKilled runs a process that publishes one message, and kills it after the short time in which
// the store writes the outcome. It returns the line that the process has printed.
func runKilled(t *testing.T, b *mqtttest.Broker, dir string, qos int, expiry time.Duration, atOnce bool) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Stderr = io.Discard
	cmd.Env = append(os.Environ(), killedVariable+"="+dir, serverVariable+"="+b.URL(), fmt.Sprintf("%s=%d", qosVariable, qos), expiryVariable+"="+expiry.String())
	if atOnce {
		cmd.Env = append(cmd.Env, atOnceVariable+"=1")
	}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, _ := bufio.NewReader(out).ReadString('\n')
	if !atOnce {
		time.Sleep(500 * time.Millisecond)
		must(t, cmd.Process.Kill())
	}
	_ = cmd.Wait()
	return line
}

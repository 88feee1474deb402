package mqtttest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// brokerDirEnv makes this test binary a broker on a folder.
const brokerDirEnv = "MQTTTEST_BROKER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(brokerDirEnv); dir != "" {
		b, err := New(Options{Dir: dir})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(b.Addr())
		select {} // until SIGKILL
	}
	os.Exit(m.Run())
}

// brokerProcess is a broker in a process of its own.
func brokerProcess(t *testing.T, dir string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerDirEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill() // SIGKILL; it may be dead already
		_ = cmd.Wait()         // it was killed
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if addr = strings.TrimSpace(line); err != nil || !strings.Contains(addr, ":") {
		t.Fatalf("the broker process said %q, %v", line, err)
	}
	return addr, kill
}

// dialed is a connection whose CONNECT was accepted.
func dialed(t *testing.T, addr, clientID string) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, nc)
	c.connect(control.Connect{ClientID: clientID, SessionExpiry: 3600})
	return c
}

// A publisher sends QoS 2 messages while a subscriber takes them, and the
// broker process is killed under them again and again. Each message arrives
// once and in order.
func TestKill_ExactlyOnce(t *testing.T) {
	dir := t.TempDir()
	var got []string
	seen := make(map[uint16]bool) // the subscriber's session: identifiers awaiting PUBREL
	sent, next, recs := 0, 1, map[int]bool{}
	for life := range 6 {
		addr, kill := brokerProcess(t, dir)
		p, c := dialed(t, addr, "p"), dialed(t, addr, "c")
		if life == 0 {
			c.subscribe(2, "t")
		} else if !p.ack.SessionPresent || !c.ack.SessionPresent {
			t.Fatal("a session was lost")
		}
		deadline := time.After(150 * time.Millisecond)
		if life == 5 {
			deadline = nil // the last one comes to its end
		}
		// The publisher resends what is open, in order, as a client must.
		for i := next; i <= sent; i++ {
			if recs[i] {
				p.say(wire.PUBREL, uint16(i), 0)
			} else {
				p.put(wire.Publish{Topic: "t", QoS: 2, PacketID: uint16(i), Dup: true, Payload: []byte(fmt.Sprint(i))})
			}
		}
		for over := false; !over; {
			for ; life < 5 && sent < next+20; sent++ {
				p.put(wire.Publish{Topic: "t", QoS: 2, PacketID: uint16(sent + 1), Payload: []byte(fmt.Sprint(sent + 1))})
			}
			select {
			case <-deadline:
				over = true
			case f := <-p.got:
				a, err := wire.ParseAck(f)
				if err != nil {
					t.Fatal(err)
				}
				if a.Type == wire.PUBREC {
					recs[int(a.PacketID)] = true
					p.say(wire.PUBREL, a.PacketID, 0)
				}
				for a.Type == wire.PUBCOMP && recs[next] && int(a.PacketID) == next {
					next++
				}
			case f := <-c.got:
				switch f.Type() {
				case wire.PUBLISH:
					v, _ := wire.ParsePublish(f)
					if !seen[v.PacketID] {
						seen[v.PacketID] = true
						got = append(got, string(v.Payload))
					}
					c.say(wire.PUBREC, v.PacketID, 0)
				case wire.PUBREL:
					a, _ := wire.ParseAck(f)
					delete(seen, a.PacketID)
					c.say(wire.PUBCOMP, a.PacketID, 0)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("nothing more comes: %d of %d sent are complete, %d received", next-1, sent, len(got))
			}
			if life == 5 && next > sent && len(got) == sent {
				over = true // nothing is left to happen
			}
		}
		kill()
		for range p.got { // until its reader is gone
		}
		// What was received before the connection ended counts.
		for f := range c.got {
			if v, err := wire.ParsePublish(f); f.Type() == wire.PUBLISH && err == nil && !seen[v.PacketID] {
				seen[v.PacketID] = true
				got = append(got, string(v.Payload))
			}
		}
	}
	if sent < 100 {
		t.Fatalf("only %d messages were sent: the test tests nothing", sent)
	}
	if !slices.Equal(got, seq(1, sent)) {
		t.Errorf("sent %d messages in order and got %d: %v", sent, len(got), got)
	}
}

package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.14: DISCONNECT.

// The Client or Server MUST validate that reserved bits are set to 0. If they are
// not zero it sends a DISCONNECT packet with a Reason Code of 0x81.
func TestMQTT_3_14_1_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.start(control.Connack{})
		for flags := byte(1); flags < 16; flags++ {
			r.wantEnd(conn, 0x81, []byte{0xE0 | flags, 1, 0x00})
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
		}
		conn.Disconnect(control.Disconnect{Reason: 0x8B}) // a valid one is not answered
		conn.ExpectClosed()
	})
}

// violations are packets that end a connection, with the reason code of the client's DISCONNECT.
var violations = []struct {
	name   string
	packet []byte
	reason byte
}{
	{"a malformed PUBLISH", []byte{0x36, 6, 0, 1, 't', 0, 1, 0}, 0x81},
	{"a PUBLISH with a wildcard", []byte{0x30, 4, 0, 1, '#', 0}, 0x81},
	{"a PUBACK for a Packet Identifier of 0", []byte{0x40, 2, 0, 0}, 0x82},
	{"a SUBSCRIBE", []byte{0x82, 7, 0, 1, 0, 0, 1, 't', 0}, 0x82},
	{"a Topic Alias without a maximum", []byte{0x30, 7, 0, 1, 't', 3, 0x23, 0, 1}, 0x94},
	{"an AUTH", []byte{0xF0, 0}, 0x82},
}

// disconnectIsShort checks that DISCONNECT has no property, even if the error has a long text and
// the server accepts only small packets.
func disconnectIsShort(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		const limit = 8
		c, conn := r.start(control.Connack{MaximumPacketSize: limit})
		for _, v := range violations {
			conn.Quiet()
			conn.Send(v.packet)
			conn.ExpectBytes([]byte{0xE0, 1, v.reason})
			conn.ExpectClosed()
			conn, _ = r.Connect(control.Connack{SessionPresent: true, MaximumPacketSize: limit})
		}
		conn.Quiet()
		closed := asks(c.Close)
		f := conn.Expect(wire.DISCONNECT)
		d, err := control.ParseDisconnect(f)
		r.must(err)
		if d.ReasonString != "" || d.User != nil || len(f.Raw) > limit {
			t.Errorf("DISCONNECT is % x", f.Raw)
		}
		conn.ExpectClosed()
		r.must(<-closed)
	})
}

// wordsThatFit disconnects with a Reason String of n bytes and a User Property of m bytes. The
// server accepts packets of 40 bytes.
func wordsThatFit(t *testing.T, n, m int, want control.Disconnect) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{MaximumPacketSize: 40})
		g := client.DisconnectOptions{Reason: 0x98, ReasonString: strings.Repeat("r", n)}
		if m > 0 {
			g.UserProperties = []client.UserProperty{{Key: "k", Value: strings.Repeat("v", m-1)}}
		}
		closed := asks(func() error { return c.CloseWith(g) })
		want.Reason = 0x98
		if got := conn.ExpectDisconnect(0x98); !reflect.DeepEqual(got, want) {
			t.Errorf("DISCONNECT is %+v, want %+v", got, want)
		}
		r.must(<-closed)
	})
}

// The sender MUST NOT send a Reason String that makes the DISCONNECT larger than the receiver's
// Maximum Packet Size. The client omits it.
func TestMQTT_3_14_2_3(t *testing.T) {
	disconnectIsShort(t)
	wordsThatFit(t, 33, 0, control.Disconnect{ReasonString: strings.Repeat("r", 33)})
	wordsThatFit(t, 34, 0, control.Disconnect{})
}

// The sender MUST NOT send a User Property that makes the DISCONNECT larger than
// the receiver's Maximum Packet Size.
func TestMQTT_3_14_2_4(t *testing.T) {
	disconnectIsShort(t)
	wordsThatFit(t, 0, 31, control.Disconnect{User: []wire.UserProperty{{Key: "k", Value: strings.Repeat("v", 30)}}})
	wordsThatFit(t, 0, 32, control.Disconnect{})
	wordsThatFit(t, 10, 32, control.Disconnect{ReasonString: strings.Repeat("r", 10)})
	onRig(t, func(t *testing.T, r *rig) { // nor if the session ends with it
		r.cfg.ClientID = ""
		c, conn := r.start(control.Connack{})
		closed := asks(c.Close)
		conn.ExpectBytes([]byte{0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0})
		conn.ExpectClosed()
		r.must(<-closed)
	})
}

// busy makes many goroutines publish and handlers acknowledge, until stop is called.
func (r *rig) busy(c *client.Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			for ctx.Err() == nil {
				_, _ = c.Publish(ctx, client.Message{Topic: fmt.Sprint(i), QoS: client.QoS(i % 3)})
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// disconnectIsLast checks that there is exactly one DISCONNECT and that nothing follows it.
func (r *rig) disconnectIsLast(conn *fakebroker.Conn, reason byte) {
	r.t.Helper()
	list := conn.Rest()
	for i, f := range list {
		if last := i == len(list)-1; (f.Type() == wire.DISCONNECT) != last {
			r.t.Fatalf("packet %d of %d is %v", i+1, len(list), f.Type())
		}
	}
	d, err := control.ParseDisconnect(list[len(list)-1])
	if r.must(err); d.Reason != reason {
		r.t.Errorf("DISCONNECT has 0x%02X, want 0x%02X", d.Reason, reason)
	}
}

// After sending a DISCONNECT packet the sender MUST NOT send any more MQTT Control Packets on that
// Network Connection. That includes packets that other goroutines are about to send.
func TestMQTT_3_14_4_1(t *testing.T) {
	t.Run("Close", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.linger()
			c, conn := r.receiver(control.Connack{}, r.keep)
			stop := r.busy(c)
			time.Sleep(20 * time.Millisecond)
			for id := uint16(1); id < 20; id++ {
				conn.Publish(message(1+byte(id%2), id, "p"))
			}
			closed := asks(c.Close)
			r.disconnectIsLast(conn, 0)
			r.must(<-closed)
			stop()
		})
	})
	t.Run("Close, and a request that waited", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.linger()
			c, conn := r.start(control.Connack{})
			r.subscribe(c, "a")
			first := conn.ExpectSubscribe().PacketID
			r.unsubscribe(c, "a") // its turn comes with the answer
			conn.Quiet()
			closed := asks(c.Close)
			conn.Expect(wire.DISCONNECT)
			conn.Suback(first, 0)
			conn.Publish(message(1, 1, "p"))
			conn.Ack(wire.PUBREC, 9, 0)
			conn.ExpectClosed()
			r.must(<-closed)
		})
	})
	t.Run("a violation", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.linger()
			c, conn := r.receiver(control.Connack{}, r.keep)
			stop := r.busy(c)
			defer stop()
			time.Sleep(20*time.Millisecond + time.Microsecond) // no goroutine is writing
			conn.Send([]byte{0x30, 4, 0, 1, '#', 0})
			r.disconnectIsLast(conn, 0x81)
		})
	})
}

// linger gives the client connections that take some time to close, during which other goroutines
// may continue to write. The connection is closed twice. Both must end within the second that Close
// has in addition to CloseTimeout.
func (r *rig) linger() {
	r.cfg.Connection.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
		nc, err := r.Dial(ctx, u)
		return lingering{nc}, err
	}
	r.t.Cleanup(func() { time.Sleep(2 * time.Second) }) // after the end of the client
}

type lingering struct{ net.Conn }

func (l lingering) Close() error {
	time.Sleep(400 * time.Millisecond)
	return l.Conn.Close()
}

// After sending a DISCONNECT packet the sender MUST close the Network Connection, even if the
// server does not.
func TestMQTT_3_14_4_2(t *testing.T) {
	for _, v := range violations {
		t.Run(strings.ReplaceAll(v.name, " ", "_"), func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				_, conn := r.start(control.Connack{})
				r.wantEnd(conn, v.reason, v.packet)
			})
		})
	}
	t.Run("Close", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			closed := asks(c.Close)
			conn.ExpectDisconnect(0)
			r.must(<-closed)
			r.Quiet(time.Hour)
		})
	})
	t.Run("Close, with a status that is not acknowledged", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
			c, conn := r.start(control.Connack{})
			conn.Ack(wire.PUBACK, r.wantPublish(conn, "online", false).PacketID, 0)
			closed := asks(c.Close)
			r.wantPublish(conn, "offline", false)
			conn.ExpectDisconnect(0x04)
			r.must(<-closed)
		})
	})
}

// A Server MUST NOT send a DISCONNECT until after it has sent a CONNACK with a Reason Code below
// 0x80. The client closes such a connection without a DISCONNECT.
func TestMQTT_3_14_0_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.client()
		conn, _ := r.Open()
		conn.Disconnect(control.Disconnect{Reason: 0x8B})
		conn.ExpectClosed()
		r.Connect(control.Connack{})
		if got := eventsOf[client.Connected](r); len(got) != 1 {
			t.Errorf("%d connections were reported, want 1", len(got))
		}
	})
}

// The Session Expiry Interval MUST NOT be sent on a DISCONNECT by the Server. It is a violation,
// but the content of the DISCONNECT still takes effect.
func TestMQTT_3_14_2_2(t *testing.T) {
	for _, seconds := range []uint32{0, 1, 0xFFFFFFFF} {
		for _, reason := range []byte{0x00, 0x8B, 0x8E, 0x77, 0xFF} {
			onRig(t, func(t *testing.T, r *rig) {
				_, conn := r.start(control.Connack{})
				r.wantEnd(conn, 0x82, control.AppendDisconnect(nil, &control.Disconnect{Reason: reason, HasSessionExpiry: true, SessionExpiry: seconds}))
				var bad *client.ProtocolError
				var said *client.ConnectionError
				got := eventsOf[client.Disconnected](r)
				if len(got) != 1 || !errors.As(got[0].Err, &bad) || bad.Packet != "DISCONNECT" || !errors.As(got[0].Err, &said) || said.Code != reason {
					t.Errorf("the events are %+v", got)
				}
				_, connect := r.Open()
				if connect.CleanStart != (reason == 0x8E) {
					t.Errorf("after 0x%02X Clean Start is %v", reason, connect.CleanStart)
				}
			})
		}
	}
}

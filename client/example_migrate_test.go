package client_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/eclipse/paho.golang/autopaho/queue"
	"github.com/eclipse/paho.golang/autopaho/queue/file"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/client"
)

// importAutopaho moves the messages in autopaho's file queue to the store of c, in their order. It
// removes a message from the queue after Publish has stored it. A crash between the two publishes
// one message twice.
func importAutopaho(ctx context.Context, c *client.Client, q *file.Queue) (n int, err error) {
	for {
		entry, err := q.Peek()
		if errors.Is(err, queue.ErrEmpty) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		r, err := entry.Reader()
		if err != nil {
			return n, errors.Join(err, entry.Leave())
		}
		packet, err := packets.ReadPacket(r)
		var p *packets.Publish
		if err == nil {
			p, _ = packet.Content.(*packets.Publish)
		}
		if p == nil {
			err = entry.Quarantine() // not a message; autopaho does the same
		} else if _, err = c.Publish(ctx, messageOf(p)); err == nil {
			n++
			err = entry.Remove()
		} else {
			return n, errors.Join(err, entry.Leave())
		}
		if err != nil && !errors.Is(err, queue.ErrEmpty) {
			return n, err
		}
	}
}

func messageOf(p *packets.Publish) client.Message {
	m := client.Message{Topic: p.Topic, Payload: p.Payload, QoS: client.QoS(p.QoS), Retain: p.Retain}
	v := p.Properties
	m.ContentType, m.ResponseTopic, m.CorrelationData = v.ContentType, v.ResponseTopic, v.CorrelationData
	m.PayloadIsUTF8 = v.PayloadFormat != nil && *v.PayloadFormat == 1
	if v.MessageExpiry != nil { // counts from the import
		m.Expiry = time.Duration(*v.MessageExpiry) * time.Second
	}
	for _, user := range v.User {
		if user.Key == "m-id" { // a reserved name, like m-pub, m-epoch and m-seq
			m.ID = client.ParseMessageID(user.Value)
			continue
		}
		m.UserProperties = append(m.UserProperties, client.UserProperty{Key: user.Key, Value: user.Value})
	}
	return m
}

// mooring delivers the messages that autopaho has queued. After the old program has ended, open its
// queue with the same arguments.
func Example_importAutopahoQueue() {
	dir, err := os.MkdirTemp("", "mooring")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	old, err := file.New(filepath.Join(dir), "queue", ".msg")
	if err != nil {
		panic(err)
	}
	for _, payload := range []string{"1450", "1460"} { // the old program
		var b bytes.Buffer
		p := paho.Publish{Topic: "pump/7/rpm", QoS: 1, Payload: []byte(payload)}
		if _, err := p.Packet().WriteTo(&b); err != nil {
			panic(err)
		}
		if err := old.Enqueue(&b); err != nil {
			panic(err)
		}
	}

	importAndDeliver(dir, func(ctx context.Context, c *client.Client) (int, error) { return importAutopaho(ctx, c, old) })
	// Output:
	// imported: 2 <nil>
	// delivered: <nil>
}

// importPahoV3 moves the unacknowledged messages in a FileStore of paho.mqtt.golang to the store of
// c. It removes a file after Publish has stored its message. It keeps other files: a PUBREL
// concerns a message that the server has, and inbound files concern messages that the server
// resends.
func importPahoV3(ctx context.Context, c *client.Client, dir string) (n int, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "o.*.msg"))
	if err != nil {
		return 0, err
	}
	modified := map[string]time.Time{}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return 0, err
		}
		modified[name] = info.ModTime()
	}
	slices.SortStableFunc(names, func(a, b string) int { return modified[a].Compare(modified[b]) }) // the order of the FileStore
	for _, name := range names {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return n, err
		}
		m, ok := parsePublish311(b)
		if !ok {
			continue
		}
		if _, err := c.Publish(ctx, m); err != nil {
			return n, err
		}
		n++
		if err := os.Remove(name); err != nil {
			return n, err
		}
	}
	return n, nil
}

// parsePublish311 parses a PUBLISH of MQTT 3.1.1 with QoS 1 or 2.
func parsePublish311(b []byte) (m client.Message, ok bool) {
	if len(b) < 2 || b[0]>>4 != 3 || b[0]&0x06 == 0 {
		return m, false
	}
	m.QoS, m.Retain = client.QoS(b[0]>>1&3), b[0]&1 != 0
	length, n := binary.Uvarint(b[1:])
	if n <= 0 || uint64(len(b)) != uint64(1+n)+length || length < 4 {
		return m, false
	}
	b = b[1+n:]
	size := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+size+2 {
		return m, false
	}
	m.Topic, m.Payload = string(b[2:2+size]), b[2+size+2:] // skips the packet identifier
	return m, true
}

// importAndDeliver imports messages into the store of a new client, and then starts the client.
func importAndDeliver(dir string, importAll func(context.Context, *client.Client) (int, error)) {
	ctx := context.Background()
	b := exampleBroker()
	defer b.Close()
	cfg := exampleConfig(b, "pump-7")
	cfg.Dir = filepath.Join(dir, "outbox")
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	n, err := importAll(ctx, c)
	fmt.Println("imported:", n, err)
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	fmt.Println("delivered:", c.Drain(ctx))
}

// mooring delivers the messages in a FileStore of paho.mqtt.golang, after the old program has
// ended.
func Example_importPahoV3FileStore() {
	dir, err := os.MkdirTemp("", "mooring")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for name, packet := range map[string][]byte{ // the old program
		"o.1.msg": append([]byte{0x32, 14, 0, 6}, "pump/7\x00\x011450"...),
		"o.2.msg": append([]byte{0x34, 14, 0, 6}, "pump/7\x00\x021460"...),
		"o.3.msg": {0x62, 2, 0, 3}, // PUBREL
		"i.9.msg": append([]byte{0x34, 10, 0, 3}, "cmd\x00\x09on!"...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), packet, 0o600); err != nil {
			panic(err)
		}
	}

	importAndDeliver(dir, func(ctx context.Context, c *client.Client) (int, error) { return importPahoV3(ctx, c, dir) })
	// Output:
	// imported: 2 <nil>
	// delivered: <nil>
}

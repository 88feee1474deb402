package wire_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// AppendAliased changes only the alias of a packet. The test covers the lengths of the properties
// at which the length field gets another byte.
func TestAppendAliased_ChangesOnlyTheAlias(t *testing.T) {
	for qos := range byte(3) {
		for _, topic := range []string{"plant", strings.Repeat("long/", 40)} {
			for _, value := range []int{0, 1, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 16_000, 16_370, 16_375, 16_376, 16_380} {
				p := wire.Publish{Topic: topic, QoS: qos, PacketID: 7, Retain: true, HasExpiry: true, MessageExpiry: 9, Payload: []byte("payload")}
				if value > 0 {
					p.User = []wire.UserProperty{{Key: "", Value: strings.Repeat("v", value)}}
				}
				if qos == 0 {
					p.PacketID = 0
				}
				packet := wire.AppendPublish(nil, &p)
				for _, known := range []bool{false, true} {
					name := fmt.Sprintf("QoS %d, topic of %d, value of %d, known %v", qos, len(topic), value, known)
					got := wire.AppendAliased([]byte("before"), packet, 0x0102, known)
					if !bytes.HasPrefix(got, []byte("before")) {
						t.Fatalf("%s: the earlier bytes are missing", name)
					}
					got = got[len("before"):]
					if !known && len(got) != wire.AliasedSize(packet) {
						t.Errorf("%s: it has %d bytes, AliasedSize says %d", name, len(got), wire.AliasedSize(packet))
					}
					if known && len(got) > len(packet) {
						t.Errorf("%s: it grew from %d to %d bytes", name, len(packet), len(got))
					}
					f, err := wire.NewReader(bytes.NewReader(got), 0).Next()
					if err != nil || len(f.Raw) != len(got) {
						t.Fatalf("%s: %v, %d of %d bytes", name, err, len(f.Raw), len(got))
					}
					v, err := wire.ParsePublish(f)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					want := p
					want.TopicAlias = 0x0102
					if known {
						want.Topic = ""
					}
					if back := v.Decode(string(v.Topic)); !reflect.DeepEqual(back, want) {
						t.Fatalf("%s: got %+v, want %+v", name, back, want)
					}
				}
			}
		}
	}
}

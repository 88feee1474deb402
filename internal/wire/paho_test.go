package wire

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/eclipse/paho.golang/packets"
)

// pahoPublish is a PUBLISH as paho.golang reads it, in our terms.
func pahoPublish(packet []byte) (p Publish, ok bool) {
	cp, err := packets.ReadPacket(bytes.NewReader(packet))
	if err != nil {
		return p, false
	}
	in, ok := cp.Content.(*packets.Publish)
	if !ok {
		return p, false
	}
	p = Publish{Dup: in.Duplicate, Retain: in.Retain, QoS: in.QoS, PacketID: in.PacketID, Topic: in.Topic, Payload: in.Payload,
		ContentType: in.Properties.ContentType, ResponseTopic: in.Properties.ResponseTopic}
	props := in.Properties
	if props.PayloadFormat != nil {
		p.PayloadFormat = *props.PayloadFormat
	}
	if props.MessageExpiry != nil {
		p.HasExpiry, p.MessageExpiry = true, *props.MessageExpiry
	}
	if props.TopicAlias != nil {
		p.TopicAlias = *props.TopicAlias
	}
	if len(props.CorrelationData) > 0 {
		p.CorrelationData = props.CorrelationData
	}
	for _, u := range props.User {
		p.User = append(p.User, UserProperty{u.Key, u.Value})
	}
	return p, true
}

// told takes out what paho.golang v0.23.0 cannot tell: it keeps one
// Subscription Identifier of several, and does not tell empty from absent.
func told(p Publish) Publish {
	p.SubscriptionIDs = nil
	if len(p.CorrelationData) == 0 {
		p.CorrelationData = nil
	}
	if len(p.Payload) == 0 {
		p.Payload = nil
	}
	return p
}

// FuzzAgainstPaho shows that what this package accepts as a PUBLISH paho
// accepts, and that it means the same to both.
func FuzzAgainstPaho(f *testing.F) {
	fr := frame(f, samplePublish)
	f.Add(fr.Header, fr.Body)
	r := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		fr := frame(f, AppendPublish(nil, anyPublish(r, false)))
		f.Add(fr.Header, fr.Body)
	}
	f.Fuzz(func(t *testing.T, header byte, body []byte) {
		header = byte(PUBLISH)<<4 | header&0x0F
		v, err := ParsePublish(Frame{Header: header, Body: body})
		if err != nil {
			return // paho takes much that is not allowed
		}
		ours := v.Decode(string(v.Topic))
		theirs, ok := pahoPublish(append(AppendVarint([]byte{header}, uint32(len(body))), body...))
		if !ok {
			t.Fatalf("paho refuses what we take for %+v", ours)
		}
		if ours, theirs = told(ours), told(theirs); !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("we read %+v, paho %+v", ours, theirs)
		}
	})
}

// What paho writes is read here as it was meant.
func TestReadsWhatPahoWrites(t *testing.T) {
	expiry, format := uint32(60), byte(1)
	out := packets.Publish{Topic: "a/b", QoS: 2, PacketID: 7, Retain: true, Payload: []byte("x"), Properties: &packets.Properties{
		MessageExpiry: &expiry, PayloadFormat: &format, ContentType: "text", ResponseTopic: "r", CorrelationData: []byte("c"),
		User: []packets.User{{Key: "k", Value: "v"}},
	}}
	var b bytes.Buffer
	if _, err := out.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	v, err := ParsePublish(frame(t, b.Bytes()))
	want := Publish{Topic: "a/b", QoS: 2, PacketID: 7, Retain: true, Payload: []byte("x"), HasExpiry: true, MessageExpiry: 60,
		PayloadFormat: 1, ContentType: "text", ResponseTopic: "r", CorrelationData: []byte("c"), User: []UserProperty{{"k", "v"}}}
	if got := v.Decode("a/b"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

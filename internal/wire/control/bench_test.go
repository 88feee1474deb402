package control

import "testing"

func BenchmarkConnect(b *testing.B) {
	c := Connect{ClientID: "pump-7", KeepAlive: 30, SessionExpiry: 3600, HasUsername: true, Username: "u", Password: []byte("p"),
		Will: &Will{Topic: "pump-7/status", QoS: 1, Retain: true, Payload: []byte("offline")}}
	f := frame(b, AppendConnect(nil, &c))
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		p, err := ParseConnect(f)
		if err != nil {
			b.Fatal(err)
		}
		buf = AppendConnect(buf[:0], &p)
	}
}

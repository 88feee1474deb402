package mqtttest

import (
	"io"
	"net"
	"testing"
)

// BenchmarkProxy is what the proxy itself can carry over TCP, without a fault
// and with a hook that looks at every packet of 270 bytes.
func BenchmarkProxy(b *testing.B) {
	for name, hook := range map[string]func(Direction, byte, []byte) Action{
		"idle": nil,
		"hook": func(Direction, byte, []byte) Action { return ActionPass },
	} {
		b.Run(name, func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = listener.Close() }()
			received := make(chan int64, 1)
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				n, _ := io.Copy(io.Discard, conn)
				received <- n
			}()
			p := StartProxy(b, listener.Addr().String())
			p.OnPacket(hook)
			client, err := net.Dial("tcp", p.Addr())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := client.Write(proxyConnect); err != nil {
				b.Fatal(err)
			}
			var batch []byte
			for range 64 {
				batch = append(batch, proxyPublish(1, 256)...)
			}
			b.SetBytes(int64(len(batch)))
			sent := int64(len(proxyConnect))
			for b.Loop() {
				n, err := client.Write(batch)
				if sent += int64(n); err != nil {
					b.Fatal(err)
				}
			}
			_ = client.Close()
			if n := <-received; n != sent {
				b.Fatalf("%d bytes of %d arrived", n, sent)
			}
		})
	}
}

package wire_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// frame returns the only packet in b.
func frame(t testing.TB, b []byte) wire.Frame {
	t.Helper()
	f, err := wire.NewReader(bytes.NewReader(b), 0).Next()
	if err != nil {
		t.Fatalf("%x is not a whole packet: %v", b, err)
	}
	if len(f.Raw) != len(b) {
		t.Fatalf("%x holds more than one packet", b)
	}
	return f
}

// wantCode checks that err is an *Error with this reason code.
func wantCode(t testing.TB, err error, code byte) {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) {
		t.Errorf("got error %v, want an *Error with reason code 0x%02X", err, code)
	} else if e.Code != code {
		t.Errorf("got reason code 0x%02X, want 0x%02X (%v)", e.Code, code, e)
	}
}

// publishOf returns an encoded PUBLISH with a payload of n bytes.
func publishOf(n int) []byte {
	return wire.AppendPublish(nil, &wire.Publish{Topic: "t", QoS: 1, PacketID: 7, Payload: bytes.Repeat([]byte{'x'}, n)})
}

func TestReader_FramesDoNotDependOnReads(t *testing.T) {
	var stream []byte
	var want [][]byte
	for _, n := range []int{0, 1, 120, 130, 16_383, 16_384, 70_000, 3, 200_000, 5} {
		want = append(want, publishOf(n), []byte{0xD0, 0})
		stream = append(append(stream, publishOf(n)...), 0xD0, 0)
	}
	for name, src := range map[string]io.Reader{
		"all at once":        bytes.NewReader(stream),
		"a byte at a time":   iotest.OneByteReader(bytes.NewReader(stream)),
		"half of each read":  iotest.HalfReader(bytes.NewReader(stream)),
		"error with data":    iotest.DataErrReader(bytes.NewReader(stream)),
		"1,000 bytes a read": chunks{bytes.NewReader(stream), 1000},
	} {
		r := wire.NewReader(src, 0)
		for i, w := range want {
			f, err := r.Next()
			if err != nil {
				t.Fatalf("%s: packet %d: %v", name, i, err)
			}
			if !bytes.Equal(f.Raw, w) {
				t.Fatalf("%s: packet %d differs: %d bytes, want %d", name, i, len(f.Raw), len(w))
			}
			if f.Header != w[0] || !bytes.HasSuffix(f.Raw, f.Body) || len(f.Body) > len(f.Raw)-2 {
				t.Fatalf("%s: packet %d: header %x and %d bytes of body do not fit", name, i, f.Header, len(f.Body))
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: got %v at the end, want io.EOF", name, err)
		}
		if r.Buffered() != 0 {
			t.Errorf("%s: %d bytes left", name, r.Buffered())
		}
	}
}

type chunks struct {
	io.Reader
	size int
}

func (c chunks) Read(p []byte) (int, error) { return c.Reader.Read(p[:min(len(p), c.size)]) }

func TestReader_RefusesBadLengths(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bytes []byte
		max   uint32
		code  byte
	}{
		{"five length bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, 0, wire.ReasonMalformedPacket},
		{"length not minimal", []byte{0x30, 0x80, 0x00}, 0, wire.ReasonMalformedPacket},
		{"one byte above the maximum", []byte{0x30, 9}, 10, wire.ReasonPacketTooLarge},
		{"256 MiB where 1 KiB is the limit", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, 1024, wire.ReasonPacketTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wire.NewReader(bytes.NewReader(tt.bytes), tt.max).Next()
			wantCode(t, err, tt.code)
		})
	}
	if _, err := wire.NewReader(bytes.NewReader([]byte{0x30, 8, 0, 1, 't', 0, 1, 2, 3, 4}), 10).Next(); err != nil {
		t.Errorf("a packet of exactly the maximum was refused: %v", err)
	}
}

func TestReader_ReportsTheEndOfTheStream(t *testing.T) {
	whole := publishOf(100)
	for n := range len(whole) {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if _, err := wire.NewReader(bytes.NewReader(whole[:n]), 0).Next(); err != want {
			t.Errorf("after %d bytes: %v, want %v", n, err, want)
		}
	}
	cut := errors.New("cut")
	if _, err := wire.NewReader(io.MultiReader(bytes.NewReader(whole[:9]), iotest.ErrReader(cut)), 0).Next(); err != cut {
		t.Errorf("got %v, want the source's own error", err)
	}
}

// pauses returns no bytes and no error several times before each byte, which io.Reader allows.
type pauses struct {
	io.Reader
	each, left int
}

func (p *pauses) Read(b []byte) (int, error) {
	if p.left--; p.left >= 0 {
		return 0, nil
	}
	p.left = p.each
	return p.Reader.Read(b)
}

func TestReader_LimitsEmptyReads(t *testing.T) {
	r := wire.NewReader(&pauses{Reader: bytes.NewReader(publishOf(3)), each: 5, left: 5}, 0)
	if _, err := r.Next(); err != nil {
		t.Errorf("five empty reads: %v", err)
	}
	r = wire.NewReader(&pauses{Reader: bytes.NewReader(nil), left: 1 << 30}, 0)
	if _, err := r.Next(); err != io.ErrNoProgress {
		t.Errorf("empty reads without end: %v, want io.ErrNoProgress", err)
	}
}

// An announced length allocates no memory: 256 MiB are announced, and 100 KiB arrive.
func TestReader_AllocatesOnlyForReceivedBytes(t *testing.T) {
	stream := append([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, make([]byte, 100<<10)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := wire.NewReader(bytes.NewReader(stream), 0).Next()
	runtime.ReadMemStats(&after)
	if err != io.ErrUnexpectedEOF {
		t.Errorf("got %v, want io.ErrUnexpectedEOF", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes allocated for 100 KiB that came", got)
	}
}

func TestReader_ReleasesALargeBuffer(t *testing.T) {
	small := len(publishOf(10))
	for name, size := range map[string]int{
		"in a stream that comes at once":    1 << 20,
		"in reads that end within a packet": small + small/2,
	} {
		t.Run(name, func(t *testing.T) {
			stream := publishOf(1 << 20)
			for range 10_000 {
				stream = append(stream, publishOf(10)...)
			}
			r := wire.NewReader(chunks{bytes.NewReader(stream), size}, 0)
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			if r.BufferSize() < 1<<20 {
				t.Fatalf("buffer of %d bytes holds a packet of 1 MiB", r.BufferSize())
			}
			for i := range 10_000 {
				if f, err := r.Next(); err != nil || !bytes.Equal(f.Raw, publishOf(10)) {
					t.Fatalf("packet %d after it: %x, %v", i, f.Raw, err)
				}
			}
			if r.BufferSize() > wire.KeepBuffer {
				t.Errorf("still %d bytes held", r.BufferSize())
			}
		})
	}
}

func TestReader_DoesNotAllocatePerPacket(t *testing.T) {
	r := wire.NewReader(&endless{packet: publishOf(200)}, 0)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// endless repeats the same packet indefinitely.
type endless struct {
	packet []byte
	at     int
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k := copy(p[n:], e.packet[e.at:])
		n, e.at = n+k, (e.at+k)%len(e.packet)
	}
	return n, nil
}

func TestCheckHeader(t *testing.T) {
	// Table 2-2 of the specification: the flags of each packet type.
	want := map[wire.Type]byte{wire.PUBREL: 2, wire.SUBSCRIBE: 2, wire.UNSUBSCRIBE: 2}
	for h := range 256 {
		typ, flags := wire.Type(h>>4), byte(h&0x0F)
		err := wire.CheckHeader(byte(h))
		if ok := typ == wire.PUBLISH || typ != 0 && flags == want[typ]; ok != (err == nil) {
			t.Errorf("header 0x%02X: %v", h, err)
		}
		if err != nil {
			wantCode(t, err, wire.ReasonMalformedPacket)
		}
	}
}

func TestTypeNames(t *testing.T) {
	if wire.PUBLISH.String() != "PUBLISH" || wire.AUTH.String() != "AUTH" || wire.Type(0).String() != "unknown" || wire.Type(77).String() != "Type(77)" {
		t.Error(wire.PUBLISH, wire.AUTH, wire.Type(0), wire.Type(77))
	}
}

package link

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadAnswer(t *testing.T) {
	long := strings.Repeat("x", maxAnswer)
	for in, want := range map[string]struct {
		status int
		reason string
		rest   string
		err    error
	}{
		"HTTP/1.1 200 Connection established\r\n\r\nrest":                {200, "Connection established", "rest", nil},
		"HTTP/1.0 200 OK\nVia: p\n\n\x20\x03":                            {200, "OK", "\x20\x03", nil},
		"HTTP/1.1 200\r\n\r\n":                                           {200, "", "", nil},
		"HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nabc":                  {200, "", "abc", nil},
		"HTTP/1.1 407 Proxy Authentication Required\r\nA: b\r\n\r\nbody": {407, "Proxy Authentication Required", "body", nil},
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nr":  {200, "OK", "r", nil},
		"HTTP/1.1 101 Switching\r\n\r\nr":                                {101, "Switching", "r", nil},
		"HTTP/1.1 502 a\x1b[31mb\r\n\r\n":                                {502, "a?[31mb", "", nil},
		"HTTP/1.1 502 " + strings.Repeat("y", 2000) + "\r\n\r\nr":        {502, strings.Repeat("y", 200), "r", nil},
		"HTTP/1.1 200 OK\r\nA: " + long[:9000] + "\r\n\r\nr":             {200, "OK", "r", nil},
		"HTTP/1.1 200 OK\r\nA: " + long + "\r\n\r\n":                     {0, "", "", errAnswerTooLong},
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxAnswer/6):  {0, "", "", errAnswerTooLong},
		strings.Repeat("HTTP/1.1 100 C\r\n\r\n", maxAnswer/18+1):         {0, "", "", errAnswerTooLong},
		long + long:               {0, "", "", errAnswerTooLong},
		"":                        {0, "", "", io.ErrUnexpectedEOF},
		"HTTP/1.1 200 OK\r\n":     {0, "", "", io.ErrUnexpectedEOF},
		"HTTP/1.1 200 OK\r\nA:":   {0, "", "", io.ErrUnexpectedEOF},
		"\r\n\r\n":                {0, "", "", errNotHTTP},
		"SSH-2.0-x\r\n":           {0, "", "", errNotHTTP},
		"HTTP/2 200 OK\r\n":       {0, "", "", errNotHTTP},
		"HTTP/1.1 2000 OK\r\n":    {0, "", "", errNotHTTP},
		"HTTP/1.1 20 OK\r\n":      {0, "", "", errNotHTTP},
		"HTTP/1.1 -20 OK\r\n":     {0, "", "", errNotHTTP},
		"HTTP/1.1 099 OK\r\n\r\n": {0, "", "", errNotHTTP},
		"HTTP/1.1 20x OK\r\n":     {0, "", "", errNotHTTP},
	} {
		from := strings.NewReader(in)
		got, r, err := readAnswer(from)
		if !errors.Is(err, want.err) {
			t.Errorf("%.60q: %v, want %v", in, err, want.err)
		}
		if err != nil {
			continue
		}
		rest, _ := io.ReadAll(io.MultiReader(r, from))
		if got != (proxyAnswer{want.status, want.reason}) || string(rest) != want.rest {
			t.Errorf("%.60q: %+v and then %q", in, got, rest)
		}
	}
}

// FuzzProxyAnswer checks that an answer does not depend on how its bytes arrive, that nothing is
// read after its end, and that its length is limited.
func FuzzProxyAnswer(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 407 No\nA: b\n\n", "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200\r\n\r\nx", "\x05\x00", "HTTP/1.1 200 OK\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		from := bytes.NewReader(in)
		a, r, err := readAnswer(from)
		b, _, slowErr := readAnswer(iotest.OneByteReader(bytes.NewReader(in)))
		if a != b || (err == nil) != (slowErr == nil) {
			t.Fatalf("at once %+v, %v; byte by byte %+v, %v", a, err, b, slowErr)
		}
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(io.MultiReader(r, from))
		read := in[:len(in)-len(rest)]
		if len(read) > maxAnswer || !bytes.HasSuffix(read, []byte("\n")) || !bytes.HasSuffix(in, rest) {
			t.Fatalf("read %q, left %q", read, rest)
		}
		if a.status < 101 || a.status > 999 || len(a.reason) > 200 || strings.ContainsFunc(a.reason, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%+v", a)
		}
		if c, _, err := readAnswer(bytes.NewReader(read)); c != a || err != nil {
			t.Fatalf("without the bytes after it: %+v, %v", c, err)
		}
	})
}

package link

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
)

const (
	// maxAnswer bounds the proxy's answer, in bytes.
	maxAnswer = 64 << 10
	// maxAnswerLine is how many bytes of a line are kept.
	maxAnswerLine = 1 << 10
)

var (
	errAnswerTooLong = fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	errNotHTTP       = errors.New("it does not speak HTTP")
)

// tunnel asks an HTTP proxy for a connection to addr, RFC 9110 section 9.3.6, and
// returns it. c is closed if that fails; a refusal is a *ProxyError.
func tunnel(ctx context.Context, c net.Conn, proxy *url.URL, addr string) (net.Conn, error) {
	release := guard(ctx, c)
	r := bufio.NewReader(c)
	answer, err := ask(c, r, proxy.User, addr)
	if ended := release(); ended != nil {
		return nil, ended
	}
	if err == nil && (answer.status < 200 || answer.status > 299) {
		err = &ProxyError{Status: answer.status, Reason: answer.reason}
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	if r.Buffered() == 0 {
		return c, nil
	}
	early, _ := r.Peek(r.Buffered()) // peeking at what is buffered cannot fail
	return &earlyConn{Conn: c, early: bytes.Clone(early)}, nil
}

func ask(w io.Writer, r *bufio.Reader, user *url.Userinfo, addr string) (proxyAnswer, error) {
	if strings.ContainsFunc(addr, func(r rune) bool { return r <= ' ' || r == 0x7F }) {
		return proxyAnswer{}, fmt.Errorf("the server's name %q cannot be part of a request; correct it", addr)
	}
	request := "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n"
	if user != nil {
		password, _ := user.Password()
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(w, request+"\r\n"); err != nil {
		return proxyAnswer{}, err
	}
	return readAnswer(r)
}

// proxyAnswer is the answer to CONNECT.
type proxyAnswer struct {
	status int
	reason string // printable
}

// readAnswer reads an answer up to the empty line after its header, and no byte more.
// It skips interim answers; 101 is final.
func readAnswer(r *bufio.Reader) (a proxyAnswer, err error) {
	left := maxAnswer
	for {
		line, err := readLine(r, &left)
		if err != nil {
			return a, err
		}
		if a, err = parseStatusLine(line); err != nil {
			return a, err
		}
		for line != "" {
			if line, err = readLine(r, &left); err != nil {
				return a, err
			}
		}
		if a.status >= 200 || a.status == 101 {
			return a, nil
		}
	}
}

// readLine reads a line and returns its first maxAnswerLine bytes. left is how many
// bytes the answer may still have.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if *left -= len(part); *left < 0 {
			return "", errAnswerTooLong
		}
		line = append(line, part[:min(len(part), maxAnswerLine-len(line))]...)
		switch {
		case err == nil:
			return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
		case err == io.EOF:
			return "", io.ErrUnexpectedEOF
		case err != bufio.ErrBufferFull:
			return "", err
		}
	}
}

// parseStatusLine parses a status line of HTTP/1.x.
func parseStatusLine(line string) (a proxyAnswer, err error) {
	version, rest, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(rest, " ")
	if len(version) != len("HTTP/1.1") || !strings.HasPrefix(version, "HTTP/1.") || len(code) != 3 {
		return a, errNotHTTP
	}
	for _, digit := range code {
		if digit < '0' || digit > '9' {
			return a, errNotHTTP
		}
		a.status = a.status*10 + int(digit-'0')
	}
	if a.status < 100 {
		return a, errNotHTTP
	}
	a.reason = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, reason[:min(len(reason), 200)])
	return a, nil
}

// earlyConn returns first the bytes that were received together with the proxy's
// answer.
type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

// NetConn returns the connection below.
func (c *earlyConn) NetConn() net.Conn { return c.Conn }

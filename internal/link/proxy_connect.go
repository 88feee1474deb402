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
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds the proxy's answer, in bytes.
const maxAnswer = 64 << 10

var (
	errAnswerTooLong = fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	errNotHTTP       = errors.New("it does not speak HTTP")
)

// tunnel requests a connection to addr from an HTTP proxy (RFC 9110 section 9.3.6) and returns it.
// If that fails, it closes c. A refusal is a *ProxyError.
func tunnel(ctx context.Context, c net.Conn, proxy *url.URL, addr string) (net.Conn, error) {
	release := guard(ctx, c)
	answer, rest, err := ask(c, proxy.User, addr)
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
	if rest.Buffered() == 0 {
		return c, nil
	}
	early, _ := rest.Peek(rest.Buffered()) // peeking at buffered bytes cannot fail
	return &readerConn{c, io.MultiReader(bytes.NewReader(early), c)}, nil
}

func ask(c io.ReadWriter, user *url.Userinfo, addr string) (a proxyAnswer, rest *bufio.Reader, err error) {
	if strings.ContainsFunc(addr, func(r rune) bool { return r <= ' ' || r == 0x7F }) {
		return a, nil, fmt.Errorf("the server's name %q cannot be part of a request; correct it", addr)
	}
	request := "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n"
	if user != nil {
		password, _ := user.Password()
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		return a, nil, err
	}
	return readAnswer(c)
}

// proxyAnswer is the answer to the CONNECT request.
type proxyAnswer struct {
	status int
	reason string // printable
}

// readAnswer reads an answer up to the end of its header. It skips interim answers, except 101,
// which is final. rest contains the bytes received after the answer.
func readAnswer(from io.Reader) (a proxyAnswer, rest *bufio.Reader, err error) {
	limited := &io.LimitedReader{R: from, N: maxAnswer}
	rest = bufio.NewReader(limited)
	for a.status < 200 && a.status != http.StatusSwitchingProtocols {
		resp, err := http.ReadResponse(rest, &http.Request{Method: http.MethodConnect})
		var failed net.Error
		switch {
		case err != nil && limited.N <= 0:
			return a, rest, errAnswerTooLong
		case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &failed):
			return a, rest, err
		case err != nil, resp.ProtoMajor != 1, resp.StatusCode < 100:
			return a, rest, errNotHTTP
		}
		a.status = resp.StatusCode
		_, a.reason, _ = strings.Cut(resp.Status, " ")
	}
	a.reason = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, a.reason[:min(len(a.reason), 200)])
	return a, rest, nil
}

// readerConn is a connection that is read through r.
type readerConn struct {
	net.Conn
	r io.Reader
}

func (c *readerConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// NetConn returns the wrapped connection.
func (c *readerConn) NetConn() net.Conn { return c.Conn }

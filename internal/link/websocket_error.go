package link

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// WebSocketError reports that a WebSocket was not opened.
type WebSocketError struct {
	Server   string // host and port
	Status   int    // HTTP status of the server's answer; 0: none, or the answer was no refusal
	Reason   string // the reason phrase after Status
	Body     string // the beginning of the answer's body, printable, at most 1,024 bytes
	Location string // where a redirect leads to, without its query
	Err      error  // the error, where there is no Status
}

func (e *WebSocketError) Error() string {
	if e.Status == 0 {
		if _, request := e.Err.(*requestError); request {
			return fmt.Sprintf("mqtt: no WebSocket request to %s: %v; it is made again at the next attempt", e.Server, e.Err)
		}
		return fmt.Sprintf("mqtt: no WebSocket to %s: %v", e.Server, e.Err)
	}
	s := strings.TrimSpace(fmt.Sprintf("mqtt: no WebSocket to %s: it answered %d %s", e.Server, e.Status, e.Reason))
	if e.Body != "" {
		s += fmt.Sprintf(" (%q)", printable(e.Body, 300))
	}
	return s + "; " + e.advice()
}

func (e *WebSocketError) advice() string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "it asks for credentials in the request; set the header Authorization, or what it expects, in Connection.WebSocketRequest"
	case e.Status == http.StatusForbidden:
		return "it forbids the request; check the token or signature that Connection.WebSocketRequest sets, whether it has expired, this machine's clock, and the header Origin"
	case e.Status == http.StatusNotFound:
		return "check the path in its URL, often /mqtt"
	case e.Status == http.StatusUpgradeRequired:
		return "it asks for another protocol, such as TLS or another version of WebSocket; write wss://, or check the port in its URL"
	case e.Status == http.StatusBadGateway:
		return "it is a gateway that does not reach the MQTT server behind it; check that this server runs and listens for WebSocket; it is tried again"
	case e.Status == http.StatusRequestTimeout, e.Status == http.StatusTooManyRequests, e.Status >= 500:
		return "it may not be able to serve this client at the moment; it is tried again"
	case e.Location != "":
		return "it redirects to " + e.Location + "; set Servers to that, with ws or wss as the scheme"
	case e.Status == http.StatusSwitchingProtocols:
		return "its answer is not that of a WebSocket; check the proxies on the way"
	}
	return "check that the port and the path in its URL, often /mqtt, are those of MQTT over WebSocket"
}

func (e *WebSocketError) Unwrap() error { return e.Err }

// SafeToRetry returns true: there was no connection.
func (*WebSocketError) SafeToRetry() bool { return true }

// requestError is an error of Dialer.Request, or about its result.
type requestError struct{ error }

func (e *requestError) Unwrap() error { return e.error }

// refusedWebSocket returns the error for an answer that is not the one that opens a WebSocket. Values of
// the request that the answer repeats, which may be secret, are removed.
func refusedWebSocket(u *url.URL, header http.Header, resp *http.Response) *WebSocketError {
	e := &WebSocketError{Server: u.Host, Status: resp.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // what came is worth showing
	secret := secretsOf(u, header)
	_, reason, _ := strings.Cut(resp.Status, " ")
	e.Reason = printable(secret.remove(reason), 200)
	e.Body = printable(secret.remove(string(body)), maxRefusal)
	location := resp.Header.Get("Location")
	if to, err := u.Parse(location); err == nil && location != "" && e.Status/100 == 3 {
		to = &url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}
		e.Location = printable(secret.remove(to.String()), 200)
	}
	return e
}

// maxRefusal is how many bytes of a refusal's body are kept.
const maxRefusal = 1024

// secrets are the values in a request that may be secret, as an answer may repeat them.
type secrets []string

// minSecret is the length of the shortest secret: shorter values are found everywhere.
const minSecret = 6

// add adds values that may be secret, in the forms in which they are repeated.
func (all secrets) add(list ...string) secrets {
	for _, v := range list {
		if len(v) >= minSecret {
			all = append(all, v, url.QueryEscape(v), html.EscapeString(v), strings.ReplaceAll(v, "/", `\/`))
		}
	}
	return all
}

func secretsOf(u *url.URL, header http.Header) (values secrets) {
	add := func(v string) { values = values.add(v) }
	add(u.RawQuery)
	for _, pair := range strings.Split(u.RawQuery, "&") {
		_, v, _ := strings.Cut(pair, "=")
		add(v)
	}
	for _, vs := range u.Query() {
		for _, v := range vs {
			add(v)
		}
	}
	for name, vs := range header {
		if name == "Origin" || name == "Host" || name == "User-Agent" {
			continue
		}
		for _, v := range vs {
			add(v)
			for _, word := range strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ';' || r == ',' || r == '=' }) {
				add(word)
			}
		}
	}
	return values
}

// remove replaces all secrets in s, and the beginning of one at its end, where s may be cut.
func (all secrets) remove(s string) string {
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // a longer value before its parts
	for _, v := range all {
		s = strings.ReplaceAll(s, v, "xxxxx")
	}
	for _, v := range all {
		for n := min(len(v), len(s)); n >= minSecret; n-- {
			if strings.HasSuffix(s, v[:n]) {
				return s[:len(s)-n] + "xxxxx"
			}
		}
	}
	return s
}

// printable returns at most n bytes of s as one line of printable text.
func printable(s string, n int) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return '?'
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

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

// WebSocketError reports that a WebSocket could not be opened.
type WebSocketError struct {
	Server   string // host and port
	Status   int    // HTTP status of the server's answer; 0: no answer, or the answer was not a refusal
	Reason   string // the reason phrase after Status
	Body     string // beginning of the body, printable, at most 1,024 bytes
	Location string // target of a redirect, without its query
	Err      error  // the error, if there is no Status
}

func (e *WebSocketError) Error() string {
	if e.Status == 0 {
		if _, request := e.Err.(*requestError); request {
			return fmt.Sprintf("mqtt: no WebSocket request to %s: %v; the next attempt makes it again", e.Server, e.Err)
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
		return "it is a gateway that cannot reach its MQTT server; check that this server runs and listens for WebSocket; the client tries again"
	case e.Status == http.StatusRequestTimeout, e.Status == http.StatusTooManyRequests, e.Status >= 500:
		return "it may not be able to serve this client at the moment; the client tries again"
	case e.Location != "":
		return "it redirects to " + e.Location + "; set Servers to that, with ws or wss as the scheme"
	case e.Status == http.StatusSwitchingProtocols:
		return "its answer is not that of a WebSocket; check the proxies on the way"
	}
	return "check that the port and the path in its URL, often /mqtt, are those of MQTT over WebSocket"
}

func (e *WebSocketError) Unwrap() error { return e.Err }

// SafeToRetry returns true, because there was no connection.
func (*WebSocketError) SafeToRetry() bool { return true }

// requestError is an error of Dialer.Request or of checking its result.
type requestError struct{ error }

func (e *requestError) Unwrap() error { return e.error }

// refusedWebSocket returns the error for an answer that does not open a WebSocket. It removes
// values of the request that the answer repeats, because they may be secrets.
func refusedWebSocket(u *url.URL, header http.Header, resp *http.Response) *WebSocketError {
	e := &WebSocketError{Server: u.Host, Status: resp.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // after an error, the part read so far is still useful
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

// maxRefusal is the number of bytes of a refusal's body that are kept.
const maxRefusal = 1024

// secrets holds values of a request that may be secret and that an answer may repeat.
type secrets []string

// minSecret is the minimum length of a secret. Shorter values occur everywhere.
const minSecret = 6

// add adds values that may be secret, in the forms in which an answer may repeat them.
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

// remove replaces all secrets in s. It also replaces the beginning of a secret at the end of s,
// because s may be truncated.
func (all secrets) remove(s string) string {
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // longer values before their parts
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

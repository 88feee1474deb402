package link

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	serverPorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}
	aliases     = map[string]string{"tcp": "mqtt", "ssl": "mqtts", "tls": "mqtts"}
	// otherSchemes maps schemes of other clients to the advice in the error.
	otherSchemes = map[string]string{
		"http": "ws for MQTT over WebSocket, or mqtt", "https": "wss for MQTT over WebSocket, or mqtts",
		"mqtt+ssl": "mqtts", "mqtt+tls": "mqtts", "mqtt-tls": "mqtts", "mqtt+tcp": "mqtt", "tcps": "mqtts", "tcp+ssl": "mqtts", "tcp+tls": "mqtts",
		"mqtt5": "mqtt", "mqtt+ws": "ws", "ws+mqtt": "ws", "mqtt+wss": "wss", "wss+mqtt": "wss", "mqtt+unix": "unix",
	}
)

// ParseServer parses a server URL and adds the default port of its scheme: mqtt (tcp) 1883, mqtts
// (ssl, tls) 8883, ws 80, wss 443. The scheme unix has no port. ParseServer refuses every part that
// would be ignored. An error quotes the URL only if no part of it may be a secret.
func ParseServer(raw string) (*url.URL, error) {
	u, err := parseServer(raw)
	if err != nil {
		return nil, fmt.Errorf("%s %w", quotable(raw), err)
	}
	return u, nil
}

// quotable returns raw in quotation marks, unless part of it may be a password or a token.
func quotable(raw string) string {
	if strings.ContainsAny(raw, "@?#") || len(raw) > 200 {
		return "the URL"
	}
	return strconv.Quote(raw)
}

func parseServer(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, errors.New("is empty; write mqtt://host:1883")
	}
	if err := checkCharacters(raw); err != nil {
		return nil, err
	}
	scheme, rest, _ := strings.Cut(raw, ":")
	written := strings.ToLower(scheme)
	scheme = cmp.Or(aliases[written], written)
	port, known := serverPorts[scheme]
	switch {
	case scheme == "unix":
		return parseUnix(rest)
	case known && !strings.HasPrefix(rest, "//"):
		return nil, fmt.Errorf("has no // after its scheme; write %s://host:%s", scheme, port)
	case !strings.Contains(raw, "://") || scheme == "":
		return nil, noScheme(raw)
	case otherSchemes[written] != "":
		return nil, fmt.Errorf("has the scheme %q; use %s", written, otherSchemes[written])
	case !known && strings.ContainsAny(scheme, "@?#/,[ "): // not a scheme, but perhaps a secret
		return nil, errors.New("has no scheme; use mqtt, mqtts, ws, wss or unix")
	case !known:
		return nil, fmt.Errorf("has the scheme %q; use mqtt, mqtts, ws, wss or unix", scheme)
	}
	rest = rest[2:]
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	switch {
	case strings.Contains(authority, "@"):
		return nil, errors.New("has a user name in it; set Connection.Username and Connection.Password instead")
	case strings.Contains(tail, "@"):
		return nil, errors.New("has an @ after the host; set Connection.Username and Connection.Password if it is part of a user name or password, and write %40 if it is part of the path or query")
	case strings.Contains(tail, "://"), strings.HasPrefix(tail, "//") && strings.HasSuffix(authority, ":"):
		return nil, errors.New("has two schemes; write one server, with one scheme")
	case strings.Contains(tail, "#"):
		return nil, errors.New("has a #, and what follows would be ignored; remove it, or write %23 if it is part of the path or query")
	case strings.HasPrefix(scheme, "mqtt") && tail != "" && tail != "/":
		return nil, fmt.Errorf("has a path or query, which MQTT over TCP does not have; remove it, or use ws or wss: %s://host:%s", scheme, port)
	}
	host, err := hostPort(authority, scheme, port)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(scheme, "mqtt") {
		tail = ""
	}
	u, err := url.Parse(scheme + "://host" + tail)
	if err != nil {
		return nil, errors.New("has a path or query that cannot be decoded; percent-encode its special characters, and write %25 for a percent sign")
	}
	u.Host = host
	return u, nil
}

// checkCharacters refuses characters that configuration files and shells often leave in a URL.
func checkCharacters(raw string) error {
	if !utf8.ValidString(raw) {
		return errors.New("is not UTF-8; write it again")
	}
	if strings.TrimSpace(raw) != raw {
		return errors.New("begins or ends with a space or a line break; remove it")
	}
	for _, r := range raw {
		switch {
		case r == ' ' && strings.HasPrefix(raw, "unix:"):
		case r == ' ':
			return errors.New("has a space in it; list several servers as several entries, and write %20 if it is part of a path")
		case strings.ContainsRune("\"'`<>{}\\^|", r):
			return fmt.Errorf("has the character %c in it; remove it, or percent-encode it if it is part of a path", r)
		case !unicode.IsPrint(r):
			return fmt.Errorf("has the invisible character %U in it; remove it", r)
		}
	}
	return nil
}

// noScheme returns the error for a URL without a scheme, such as host:1883.
func noScheme(raw string) error {
	host := strings.TrimLeft(raw, ":/")
	if strings.ContainsAny(raw, "@?#") {
		host = "host:1883"
	}
	scheme := "mqtt"
	if strings.HasSuffix(host, ":8883") {
		scheme = "mqtts"
	}
	return fmt.Errorf("has no scheme; write %s://%s", scheme, host)
}

// maxSocketPath is the maximum length of the path of a Unix socket on Linux, in bytes. Other
// systems have lower limits.
const maxSocketPath = 107

// parseUnix parses the part after "unix:".
func parseUnix(rest string) (*url.URL, error) {
	path, slashes := strings.CutPrefix(rest, "//")
	switch {
	case strings.ContainsAny(rest, "?#"):
		return nil, errors.New("has a ? or a #, and what follows would be ignored; write %3F or %23 if it is part of the path")
	case path == "" || path == "/":
		return nil, errors.New("names no socket; write unix:///path/to/socket")
	case slashes && path[0] != '/':
		return nil, errors.New("names a host before the socket; write unix:///path/to/socket, with three slashes")
	case path[0] != '/':
		return nil, errors.New("has a relative path; write unix:///path/to/socket")
	}
	plain, err := url.PathUnescape(path)
	switch {
	case err != nil:
		return nil, errors.New("has a path that cannot be decoded; write %25 for a percent sign")
	case len(plain) > maxSocketPath:
		return nil, fmt.Errorf("has a path of %d bytes, and a socket has at most %d; use a shorter one", len(plain), maxSocketPath)
	}
	return &url.URL{Scheme: "unix", Path: plain}, nil
}

// hostPort checks the host and port of a URL with this scheme, and adds the default port.
func hostPort(authority, scheme, standard string) (string, error) {
	example := scheme + "://host:" + standard
	host, port, colon := authority, "", false
	switch {
	case strings.ContainsAny(authority, ",;"):
		return "", fmt.Errorf("names several hosts; list each as an entry of its own, such as %s", example)
	case strings.HasPrefix(authority, "["):
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return "", fmt.Errorf("has a [ without a ]; write %s://[::1]:%s", scheme, standard)
		}
		var after string
		host, after = authority[1:end], authority[end+1:]
		if port, colon = strings.CutPrefix(after, ":"); !colon && after != "" {
			return "", fmt.Errorf("has something between ] and the port; write %s://[::1]:%s", scheme, standard)
		}
		if addr, err := netip.ParseAddr(strings.Replace(host, "%25", "%", 1)); err != nil || !addr.Is6() || strings.Contains(host, "%") && !strings.Contains(host, "%25") {
			return "", fmt.Errorf("has brackets around what is not an IPv6 address; write %s://[::1]:%s, a zone as [fe80::1%%25eth0], and names without brackets", scheme, standard)
		}
		host = strings.Replace(host, "%25", "%", 1)
	case strings.Count(authority, ":") > 1:
		return "", unbracketed(authority, scheme, standard)
	default:
		host, port, colon = strings.Cut(authority, ":")
		if host == "" {
			return "", fmt.Errorf("names no host; write %s", example)
		}
		if plain, err := url.PathUnescape(host); err == nil && !isASCII(plain) {
			host = plain // the form in which net/url writes a name with non-ASCII letters
		}
		if err := checkHost(host); err != nil {
			return "", err
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case colon && port == "":
		return "", fmt.Errorf("has a colon and no port after the host; write a port, or remove the colon for port %s", standard)
	case colon && (err != nil || n == 0):
		return "", fmt.Errorf("has an invalid port; use 1 to 65535, or none for %s", standard)
	case colon:
		standard = strconv.FormatUint(n, 10)
	}
	return net.JoinHostPort(host, standard), nil
}

// unbracketed returns the error for an authority with several colons.
func unbracketed(authority, scheme, standard string) error {
	last := strings.LastIndexByte(authority, ':')
	var forms []string
	for _, form := range [][2]string{{authority[:last], authority[last+1:]}, {authority, standard}} {
		_, err := strconv.ParseUint(form[1], 10, 16)
		if addr, bad := netip.ParseAddr(form[0]); err == nil && bad == nil && addr.Is6() && addr.Zone() == "" {
			forms = append(forms, fmt.Sprintf("%s://[%s]:%s", scheme, form[0], form[1]))
		}
	}
	if len(forms) > 0 {
		return fmt.Errorf("has an IPv6 address without brackets; write %s", strings.Join(forms, " or "))
	}
	return fmt.Errorf("has several colons after the scheme; write %s://host:%s, and IPv6 addresses in brackets: %s://[::1]:%s", scheme, standard, scheme, standard)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

// checkHost checks a host name or an IPv4 address.
func checkHost(host string) error {
	if err := checkCharacters(host); err != nil {
		return err
	}
	for _, r := range host {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' || r > 0x7F) {
			return fmt.Errorf("has the character %c in its host; check whether a variable was left in it", r)
		}
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || len(host) > 254 {
			return errors.New("has an invalid host name: a part between dots is empty or longer than 63 bytes, or the name is longer than 253 bytes; correct it")
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" { // no host name ends with a number
		if _, err := netip.ParseAddr(host); err != nil {
			return errors.New("has a host that looks like an IPv4 address but is invalid; write four numbers from 0 to 255, without leading zeros")
		}
	}
	return nil
}

// hidden replaces a possible secret.
const hidden = "xxxxx"

// Redacted returns u in the form for events, errors and log messages. It hides the password and the
// query, which may be secrets. It also hides a user without a password, which may be a token.
func Redacted(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if password, _ := u.User.Password(); password != "" {
		shown.User = url.UserPassword(u.User.Username(), hidden)
	} else if u.User != nil {
		shown.User = url.User(hidden)
	}
	if u.RawQuery != "" {
		shown.RawQuery = hidden
	}
	return shown.String()
}

// RedactedText applies Redacted to servers or URLs separated by spaces. It hides entries that it
// cannot parse with certainty.
func RedactedText(s string) string {
	fields := strings.Fields(s)
	for i, field := range fields {
		_, rest, _ := strings.Cut(field, "://")
		_, user, _ := strings.Cut(rest, "@")
		switch u, err := url.Parse(field); {
		case !strings.ContainsAny(field, "@?#"):
		case err == nil && u.Host != "" && !strings.Contains(user, "@") && (u.User != nil || !strings.Contains(rest, "@")):
			fields[i] = Redacted(u)
		default:
			fields[i] = hidden
		}
	}
	return strings.Join(fields, " ")
}

package wire

import (
	"bytes"
	"strings"
)

// MaxString is the maximum length of an MQTT string, in bytes.
const MaxString = 65_535

func validTopicName(b []byte) bool {
	return len(b) > 0 && len(b) <= MaxString && !bytes.ContainsAny(b, "+#") && ValidString(b)
}

// CheckString returns an error if s is not valid as the UTF-8 Encoded String of a field.
func CheckString(field, s string) error {
	switch {
	case len(s) > MaxString:
		return &FieldError{field, "is longer than 65,535 bytes; shorten it, it is never cut"}
	case !ValidString([]byte(s)):
		return &FieldError{field, "is not valid UTF-8 or contains U+0000"}
	}
	return nil
}

// CheckTopicName returns an error if a message cannot be published to topic [MQTT-4.7.0-1]
// [MQTT-4.7.3-1].
func CheckTopicName(field, topic string) error {
	switch {
	case topic == "":
		return &FieldError{field, "is empty; it must be at least one character long"}
	case strings.ContainsAny(topic, "+#"):
		return &FieldError{field, "contains a wildcard (+ or #); those are for Topic Filters only"}
	}
	return CheckString(field, topic)
}

// CheckTopicFilter returns an error if filter is invalid in a subscription [MQTT-4.7.1-1]
// [MQTT-4.7.1-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2].
func CheckTopicFilter(filter string) error {
	const field = "Topic Filter"
	if err := CheckString(field, filter); err != nil {
		return err
	}
	share, filter, shared := SplitShare(filter)
	switch {
	case shared && (share == "" || strings.ContainsAny(share, "+#") || filter == ""):
		return &FieldError{field, "is not $share/name/filter with a name of one or more characters without + and #"}
	case filter == "":
		return &FieldError{field, "is empty; it must be at least one character long"}
	}
	for level := range strings.SplitSeq(filter, "/") {
		if len(level) > 1 && strings.ContainsAny(level, "+#") {
			return &FieldError{field, "has a wildcard that does not stand alone in its level"}
		}
	}
	if i := strings.IndexByte(filter, '#'); i >= 0 && i != len(filter)-1 {
		return &FieldError{field, "has a # that is not its last character"}
	}
	return nil
}

// SplitShare splits $share/name/filter. For another filter, rest is the filter and ok is false.
func SplitShare(filter string) (name, rest string, ok bool) {
	if rest, ok = strings.CutPrefix(filter, "$share/"); ok {
		name, rest, _ = strings.Cut(rest, "/")
	}
	return name, rest, ok
}

// Match reports whether topic matches filter by the rules of section 4.7. + matches one level. #
// matches any number of levels, including the parent level. No wildcard in the first level matches
// a topic that begins with $ [MQTT-4.7.2-1]. A Shared Subscription matches by the filter in it.
func Match(filter, topic string) bool {
	_, filter, _ = SplitShare(filter)
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		level, filterRest, filterMore := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		name, topicRest, topicMore := strings.Cut(topic, "/")
		if level != "+" && level != name {
			return false
		}
		if !topicMore || !filterMore {
			return !topicMore && (!filterMore || filterRest == "#")
		}
		filter, topic = filterRest, topicRest
	}
}

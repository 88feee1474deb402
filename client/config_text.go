package client

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// String returns the fields that are set, without secrets. String hides passwords, tokens,
// payloads, values of user properties, the password and query of URLs, and a user name without a
// password. Functions, interfaces and TLS settings are shown by their types.
func (c Config) String() string {
	c.Servers = slices.Clone(c.Servers)
	for i, s := range c.Servers {
		c.Servers[i] = redactedURL(s)
	}
	return fieldText(reflect.ValueOf(c))
}

// GoString returns String with the name of the type.
func (c Config) GoString() string { return "client.Config" + c.String() }

// LogValue returns String, for package slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// String returns the fields that are set, as Config.String does.
func (c ConnectionConfig) String() string {
	c.Username = Credentials{c.Username, c.Password}.shownUser()
	c.Proxy = redactedURL(c.Proxy)
	return fieldText(reflect.ValueOf(c))
}

// GoString returns String with the name of the type.
func (c ConnectionConfig) GoString() string { return "client.ConnectionConfig" + c.String() }

// LogValue returns String, for package slog.
func (c ConnectionConfig) LogValue() slog.Value { return slog.StringValue(c.String()) }

// redactedURL returns the URL of a server or a proxy without possible secrets.
func redactedURL(s string) string {
	if strings.Contains(s, " ") { // it may be part of a password
		return hidden
	}
	return link.RedactedText(s)
}

// fieldText returns the exported fields of a struct that are set.
func fieldText(v reflect.Value) string {
	var fields []string
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() {
			fields = append(fields, f.Name+":"+valueText(v.Field(i)))
		}
	}
	return "{" + strings.Join(fields, " ") + "}"
}

// valueText returns the text of a value in a Config. It hides the content of bytes, maps, functions
// and interfaces.
func valueText(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case ConnectionConfig:
		return x.String()
	case UserProperty:
		return fmt.Sprintf("%q:%s", x.Key, hidden)
	case []byte:
		return hidden
	case string:
		return fmt.Sprintf("%q", x)
	}
	switch v.Kind() {
	case reflect.Struct:
		return fieldText(v)
	case reflect.Pointer:
		if !v.IsNil() && v.Elem().Kind() == reflect.Struct && ownType(v.Elem().Type()) {
			return fieldText(v.Elem())
		}
	case reflect.Interface:
		if !v.IsNil() {
			return v.Elem().Type().String()
		}
	case reflect.Slice:
		var list []string
		for i := range v.Len() {
			list = append(list, valueText(v.Index(i)))
		}
		return "[" + strings.Join(list, " ") + "]"
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float64:
		return fmt.Sprint(v)
	}
	return v.Type().String()
}

// ownType reports whether a type is declared in this module.
func ownType(t reflect.Type) bool {
	const module = "github.com/mooring-mqtt/mooring/"
	return strings.HasPrefix(t.PkgPath(), module)
}

package configdoc

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	link     = regexp.MustCompile(`\[\*?([A-Za-z.]+)\]`) // in a doc comment
	quantity = regexp.MustCompile(`^([\d,]+)(?: (ms|s|h|minute|days|KiB|MiB|GiB)\b)?`)
	backoff  = regexp.MustCompile(`^(.+), doubled each time, up to (.+)$`)
	constant = regexp.MustCompile(`^[A-Z]\w+$`)
)

var units = map[string]int64{"": 1, "ms": int64(time.Millisecond), "s": int64(time.Second), "h": int64(time.Hour), "minute": int64(time.Minute),
	"days": 24 * int64(time.Hour), "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// CheckDefaults compares the documented defaults of a struct, such as "client.Config", with
// value, which the code has filled with its defaults. It includes structs of the same package in
// its fields, but not behind pointers. root is the folder of the module. except has the values,
// by path, of the fields whose comment describes a calculation, or whose default is set later.
func CheckDefaults(t *testing.T, root, name string, value any, except map[string]any) {
	t.Helper()
	s, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if s.structs[name] == nil {
		t.Fatalf("there is no %s", name)
	}
	c := comparison{t, s, except, map[string]bool{}}
	c.compare(name, "", reflect.ValueOf(value))
	for path := range except {
		if !c.used[path] {
			t.Errorf("there is no %s.%s", name, path)
		}
	}
}

type comparison struct {
	t      *testing.T
	source *Source
	except map[string]any
	used   map[string]bool
}

func (c *comparison) compare(name, prefix string, v reflect.Value) {
	c.t.Helper()
	pkg, _, _ := strings.Cut(name, ".")
	for _, f := range c.source.structs[name].Fields {
		text, _ := f.Default()
		path, field := prefix+f.Name, v.FieldByName(f.Name)
		switch m := backoff.FindStringSubmatch(text); {
		case f.Struct != "" && field.Kind() == reflect.Struct && strings.HasPrefix(f.Struct, pkg+"."):
			c.compare(f.Struct, path+".", field)
		case m != nil && field.Kind() == reflect.Struct:
			c.check(pkg, path+".Min", m[1], field.FieldByName("Min"))
			c.check(pkg, path+".Max", m[2], field.FieldByName("Max"))
		case field.Kind() != reflect.Struct: // other structs are checked in their packages
			c.check(pkg, path, text, field)
		}
	}
}

func (c *comparison) check(pkg, path, text string, v reflect.Value) {
	c.t.Helper()
	want, got := c.source.number(pkg, text), number(v)
	if e, ok := c.except[path]; ok {
		c.used[path] = true
		if want == got {
			c.t.Errorf("%s: the code uses the documented default %q, so remove the exception", path, text)
		}
		want = number(reflect.ValueOf(e))
	}
	if want != got {
		c.t.Errorf("%s: the documented default is %q (%d), but the code uses %v", path, text, want, v)
	}
}

// number returns the value of a documented default. A text such as "none" stands for 0.
func (s *Source) number(pkg, text string) int64 {
	if m := quantity.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseInt(strings.ReplaceAll(m[1], ",", ""), 10, 64)
		if err == nil {
			return n * units[m[2]]
		}
	}
	text = link.ReplaceAllString(text, "$1")
	if constant.MatchString(text) {
		for _, p := range append([]string{pkg}, packages...) {
			if n, ok := s.constants[p+"."+text]; ok {
				return n
			}
		}
	}
	return 0
}

// number returns a value as a number, to compare it with a documented default.
func number(v reflect.Value) int64 {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch {
	case !v.IsValid():
		return 0
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return int64(v.Uint())
	case v.CanFloat():
		return int64(v.Float())
	case v.IsZero():
		return 0
	}
	return 1 // set
}

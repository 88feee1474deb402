package topic_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/topic"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// model is a Tree that keeps a list and compares each filter.
type model []*topic.Entry[int]

func (m *model) delete(filter string) (removed *topic.Entry[int]) {
	for i, e := range *m {
		if e.Filter == filter {
			*m = slices.Delete(*m, i, i+1)
			return e
		}
	}
	return nil
}

func (m *model) set(filter string, value int) {
	m.delete(filter)
	*m = append(*m, &topic.Entry[int]{Filter: filter, Value: value})
}

// filters returns the filters of the entries for which keep returns true, in order.
func filters(list []*topic.Entry[int], keep func(filter string) bool) (found []string) {
	for _, e := range list {
		if keep == nil || keep(e.Filter) {
			found = append(found, fmt.Sprint(e.Filter, "=", e.Value))
		}
	}
	return found
}

// names returns every topic of up to depth levels built from some level names.
func names(depth int) (list []string) {
	for _, level := range []string{"", "a", "b", "$x"} {
		list = append(list, level)
		if depth > 1 {
			for _, rest := range names(depth - 1) {
				list = append(list, level+"/"+rest)
			}
		}
	}
	return list
}

func randomFilter(r *rand.Rand) string {
	for {
		var levels []string
		for range 1 + r.IntN(4) {
			levels = append(levels, []string{"", "a", "b", "$x", "+", "+", "#"}[r.IntN(7)])
		}
		filter := strings.Join(levels, "/")
		if r.IntN(6) == 0 {
			filter = fmt.Sprintf("$share/g%d/%s", r.IntN(2), filter)
		}
		if wire.CheckTopicFilter(filter) == nil {
			return filter
		}
	}
}

// check compares a tree with its model. topics must be sufficient to find overlaps.
func check(t *testing.T, tree *topic.Tree[int], m model, topics []string, filter string) {
	t.Helper()
	if got, want := filters(slices.Collect(tree.All()), nil), filters(m, nil); !slices.Equal(got, want) || tree.Len() != len(m) {
		t.Fatalf("All yields %q (Len %d), want %q", got, tree.Len(), want)
	}
	for _, name := range topics {
		got := filters(tree.Match(name, nil), nil)
		want := filters(m, func(f string) bool { return wire.Match(f, name) })
		if !slices.Equal(got, want) {
			t.Fatalf("Match(%q) = %q, want %q", name, got, want)
		}
	}
	overlap := func(f string) bool {
		return slices.ContainsFunc(topics, func(name string) bool { return wire.Match(f, name) && wire.Match(filter, name) })
	}
	if got, want := filters(tree.Overlapping(filter, nil), nil), filters(m, overlap); !slices.Equal(got, want) {
		t.Fatalf("Overlapping(%q) = %q, want %q", filter, got, want)
	}
}

func TestTree_AgreesWithModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	topics := names(5)[1:] // without the empty topic
	for range 40 {
		var tree topic.Tree[int]
		var m model
		for step := range 16 {
			filter := randomFilter(r)
			if r.IntN(4) == 0 {
				if step%2 == 0 && len(m) > 0 {
					filter = m[r.IntN(len(m))].Filter
				}
				got, want := tree.Delete(filter), m.delete(filter)
				if (got == nil) != (want == nil) || got != nil && (got.Filter != want.Filter || got.Value != want.Value) {
					t.Fatalf("Delete(%q) = %v, want %v", filter, got, want)
				}
				if tree.Get(filter) != nil {
					t.Fatalf("%q is still there", filter)
				}
				continue
			}
			e := tree.Set(filter, step)
			m.set(filter, step)
			if _, _, shared := wire.SplitShare(filter); tree.Get(filter) != e || e.Shared != shared {
				t.Fatalf("Get(%q) = %v, Shared %v", filter, tree.Get(filter), e.Shared)
			}
		}
		check(t, &tree, m, topics, randomFilter(r))
	}
}

func FuzzTree(f *testing.F) {
	f.Add("a/+\n#\n+/+\n$share/g/a/#\n-a/+", "a/b", "+/#")
	f.Add("#\n$SYS/#\n+/x\n/\n//", "$SYS/x", "#")
	f.Fuzz(func(t *testing.T, list, name, filter string) {
		if wire.CheckTopicName("", name) != nil || wire.CheckTopicFilter(filter) != nil {
			return
		}
		var tree topic.Tree[int]
		var m model
		for i, line := range strings.Split(list, "\n") {
			line, remove := strings.CutPrefix(line, "-")
			switch {
			case wire.CheckTopicFilter(line) != nil:
			case remove:
				tree.Delete(line)
				m.delete(line)
			default:
				tree.Set(line, i)
				m.set(line, i)
			}
		}
		got := filters(tree.Match(name, nil), nil)
		if want := filters(m, func(f string) bool { return wire.Match(f, name) }); !slices.Equal(got, want) {
			t.Fatalf("Match(%q) = %q, want %q", name, got, want)
		}
		// If a topic matches both filters, they overlap.
		overlapping := filters(tree.Overlapping(filter, nil), nil)
		if wire.Match(filter, name) {
			for _, f := range got {
				if !slices.Contains(overlapping, f) {
					t.Fatalf("Overlapping(%q) = %q, without %q, although both match %q", filter, overlapping, f, name)
				}
			}
		}
		for _, e := range slices.Clone(m) {
			tree.Delete(e.Filter)
		}
		if tree.Len() != 0 || len(tree.Match(name, nil)) != 0 {
			t.Fatal("the tree is not empty")
		}
	})
}

func TestTree_Overlapping(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a/b", false}, {"a", "a/#", true}, {"a/b", "a/#", true}, {"a", "a/b/#", false},
		{"+", "a", true}, {"+/b", "a/+", true}, {"+/b", "a/c", false}, {"a/+", "a", false}, {"+/+/#", "a/b", true},
		{"#", "a/b", true}, {"a/#", "+/b/c", true}, {"a/#", "b/#", false}, {"/", "+/+", true}, {"/", "+", false},
		{"#", "$a/b", false}, {"+/b", "$a/b", false}, {"$a/+", "$a/b", true}, {"$share/g/a/+", "$share/h/+/b", true},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			var tree topic.Tree[int]
			tree.Set(pair[0], 1)
			if got := len(tree.Overlapping(pair[1], nil)) > 0; got != c.want {
				t.Errorf("%s and %s: %v, want %v", pair[0], pair[1], got, c.want)
			}
		}
	}
}

func TestTree_MatchDoesNotAllocate(t *testing.T) {
	var tree topic.Tree[int]
	tree.Set("devices/+/status", 1)
	tree.Set("devices/#", 2)
	if n := testing.AllocsPerRun(100, func() {
		var room [4]*topic.Entry[int]
		if len(tree.Match("devices/7/status", room[:0])) != 2 {
			t.Error("it does not match")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTree_Match(b *testing.B) {
	for _, count := range []int{1, 100, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var tree topic.Tree[int]
			topics := make([]string, count)
			for i := range count {
				topics[i] = fmt.Sprintf("plant/%d/device/%d/status", i%100, i)
				tree.Set(fmt.Sprintf("plant/%d/+/%d/status", i%100, i), i)
			}
			b.ReportAllocs()
			var room [4]*topic.Entry[int]
			for i := 0; b.Loop(); i++ {
				if len(tree.Match(topics[i%count], room[:0])) != 1 {
					b.Fatal("it does not match")
				}
			}
		})
	}
}

func BenchmarkTree_Set(b *testing.B) {
	for b.Loop() {
		var tree topic.Tree[int]
		for i := range 10_000 {
			tree.Set(fmt.Sprintf("plant/%d/+/%d/status", i%100, i), i)
		}
	}
}

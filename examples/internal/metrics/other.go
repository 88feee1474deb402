//go:build !linux

package metrics

import (
	"runtime/metrics"
	"strings"
)

// Sources returns the groups of metrics of the Go runtime.
func Sources() []Source {
	groups := map[string][]metrics.Sample{}
	var order []string
	for _, d := range metrics.All() {
		if d.Kind == metrics.KindFloat64Histogram || d.Kind == metrics.KindBad {
			continue
		}
		group := strings.Split(strings.Trim(d.Name, "/"), "/")[0]
		if groups[group] == nil {
			order = append(order, group)
		}
		groups[group] = append(groups[group], metrics.Sample{Name: d.Name})
	}
	var all []Source
	for _, group := range order {
		samples := groups[group]
		all = append(all, Source{group, func() ([]Reading, error) {
			metrics.Read(samples)
			var out []Reading
			for _, s := range samples {
				v := 0.0
				if s.Value.Kind() == metrics.KindUint64 {
					v = float64(s.Value.Uint64())
				} else {
					v = s.Value.Float64()
				}
				out = append(out, Reading{strings.NewReplacer(":", "_", "+", "", "#", "").Replace(strings.Trim(s.Name, "/")), v})
			}
			return out, nil
		}})
	}
	return all
}

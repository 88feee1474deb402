package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// limit is one line of the file of limits: a measure, the subject to which it applies, and the
// maximum. The subject is a name, a kind of package, or "*" for all.
type limit struct {
	measure, subject string
	most             int
	before           string // the value at commit e2bd7dc, for information
	used             bool
}

// value is one measured value to which a limit can apply.
type value struct {
	measure, subject string
	kind             kind
	n                int
	detail           string
}

func values(f *figures) (all []value) {
	for _, t := range f.types {
		all = append(all, value{measure: "fields", subject: t.name, n: t.fields}, value{measure: "methods", subject: t.name, n: t.methods})
	}
	for _, p := range f.paths {
		all = append(all,
			value{measure: "path", subject: p.name, n: len(p.files), detail: strings.Join(p.files, ", ")},
			value{measure: "reach", subject: p.name, n: p.reach})
	}
	lines := map[kind]int{}
	for _, p := range f.packages {
		all = append(all,
			value{"cycle", p.path, p.kind, len(p.cycle), strings.Join(p.cycle, ", ")},
			value{"function", p.path, p.kind, p.functionLines, p.function},
			value{"file", p.path, p.kind, p.fileLines, p.file})
		for _, t := range p.options {
			all = append(all, value{"options", p.path + "." + t.name, p.kind, t.fields, ""})
		}
		lines[p.kind] += p.lines
	}
	for _, k := range []kind{library, support, examples} {
		all = append(all, value{measure: "lines", subject: string(k), n: lines[k]})
	}
	return all
}

func readLimits(path string) (all []limit, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) < 3 {
			return nil, fmt.Errorf("%s:%d: want a measure, a subject and a number", path, i+1)
		}
		most, err := strconv.Atoi(words[2])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		all = append(all, limit{measure: words[0], subject: words[1], most: most, before: strings.Join(words[3:], " ")})
	}
	return all, nil
}

// exceeded returns a line for each value above its limit, and for each limit that applies to
// nothing. A limit for a name has precedence over one for a kind, which has precedence over the
// limit for all.
func exceeded(all []value, limits []limit) (problems []string) {
	for _, v := range all {
		at := -1
		for _, subject := range []string{v.subject, string(v.kind), "*"} {
			if at = slices.IndexFunc(limits, func(l limit) bool { return l.measure == v.measure && l.subject == subject }); at >= 0 {
				break
			}
		}
		if at < 0 {
			continue
		}
		limits[at].used = true
		if v.n <= limits[at].most {
			continue
		}
		problem := fmt.Sprintf("%s of %s: %d, limit %d", v.measure, v.subject, v.n, limits[at].most)
		if v.detail != "" {
			problem += " (" + v.detail + ")"
		}
		problems = append(problems, problem)
	}
	for _, l := range limits {
		if !l.used {
			problems = append(problems, fmt.Sprintf("the limit of %s of %s applies to nothing; remove or rename it", l.measure, l.subject))
		}
	}
	return problems
}

// compared lists the values that have a separate limit.
func compared(all []value, limits []limit) string {
	var b strings.Builder
	for _, v := range all {
		for _, l := range limits {
			if l.measure == v.measure && l.subject == v.subject {
				fmt.Fprintf(&b, "%-10s %-22s %6d   limit %d   before %s\n", v.measure, v.subject, v.n, l.most, l.before)
			}
		}
	}
	return b.String()
}

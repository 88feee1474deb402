//go:build linux

package metrics

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Sources returns the groups of metrics that Linux reports in /proc.
func Sources() []Source {
	return []Source{
		{"load", func() ([]Reading, error) { return lines("/proc/loadavg", load) }},
		{"cpu", func() ([]Reading, error) { return lines("/proc/stat", cpu) }},
		{"memory", func() ([]Reading, error) { return lines("/proc/meminfo", memory) }},
		{"disk", func() ([]Reading, error) { return lines("/proc/diskstats", disk) }},
		{"net", func() ([]Reading, error) { return lines("/proc/net/dev", network) }},
	}
}

// lines returns the readings of all lines of a file.
func lines(path string, parse func(fields []string) []Reading) ([]Reading, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []Reading
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		all = append(all, parse(strings.Fields(s.Text()))...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no readings", path)
	}
	return all, nil
}

// read returns a reading for each field that is a number and has a name.
func read(prefix string, fields []string, names ...string) (out []Reading) {
	for i, name := range names {
		if i >= len(fields) {
			break
		}
		if v, err := strconv.ParseFloat(fields[i], 64); err == nil && name != "" {
			out = append(out, Reading{prefix + name, v})
		}
	}
	return out
}

func load(f []string) []Reading { return read("load/", f, "1m", "5m", "15m") }

// hertz is USER_HZ, the unit of the times in /proc/stat. Linux reports them in 1/100 s.
const hertz = 100

func cpu(f []string) []Reading {
	if len(f) < 5 || !strings.HasPrefix(f[0], "cpu") || f[0] == "cpu" {
		return nil
	}
	out := read("cpu/"+f[0][3:]+"/", f[1:], "user_seconds", "nice_seconds", "system_seconds", "idle_seconds")
	for i := range out {
		out[i].Value /= hertz
	}
	return out
}

func memory(f []string) []Reading {
	if len(f) < 2 {
		return nil
	}
	switch name := strings.TrimSuffix(f[0], ":"); name {
	case "MemTotal", "MemFree", "MemAvailable", "Cached", "Dirty":
		return read("memory/", f[1:], strings.ToLower(name)+"_kib")
	}
	return nil
}

func disk(f []string) []Reading {
	if len(f) < 11 || strings.HasPrefix(f[2], "loop") || strings.HasPrefix(f[2], "ram") {
		return nil
	}
	return read("disk/"+f[2]+"/", f[3:], "reads", "", "sectors_read", "", "writes", "", "sectors_written")
}

func network(f []string) []Reading {
	if len(f) < 11 || !strings.HasSuffix(f[0], ":") {
		return nil
	}
	return read("net/"+strings.TrimSuffix(f[0], ":")+"/", f[1:], "bytes_in", "packets_in", "", "", "", "", "", "", "bytes_out", "packets_out")
}

package fsys

import (
	"os"
	"strconv"
	"strings"
)

// readPID returns the PID in a lock file, or 0.
func readPID(name string) int {
	data, _ := os.ReadFile(name)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return max(pid, 0)
}

package client

import "fmt"

// nameOf returns the name of value n of an enumeration.
func nameOf[N ~uint8](n N, kind string, names ...string) string {
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("%s(%d)", kind, n)
}

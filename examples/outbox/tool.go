package main

import (
	"io"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// The exit codes.
const (
	exitOK      = 0
	exitDamaged = 1 // verify found damage
	exitFailed  = 2 // the command failed
)

// tool is one execution of a command.
type tool struct {
	dir, state, topic string
	limit             int
	yes, drop         bool
	args              []string // of the command
	now               time.Time
	out               io.Writer
	in                *inspect.Folder
}

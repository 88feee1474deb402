package dedupe

import (
	"io"
	"os"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// disk is the file system of a File. Tests use one that fails.
type disk interface {
	ReadFile(path string) ([]byte, error)
	Create(path string) (logFile, error)     // empty, for writing
	OpenAppend(path string) (logFile, error) // existing, every write at the end
	Rename(from, to string) error
	Remove(path string) error
	SyncDir(path string) error
}

type logFile interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

type osDisk struct{}

func (osDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }
func (osDisk) Rename(from, to string) error         { return os.Rename(from, to) }
func (osDisk) Remove(path string) error             { return os.Remove(path) }
func (osDisk) SyncDir(path string) error            { return fsys.SyncDir(path) }

func (osDisk) Create(path string) (logFile, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
}

func (osDisk) OpenAppend(path string) (logFile, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
}

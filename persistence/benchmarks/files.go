package benchmarks

import (
	"errors"
	"io"
	"os"

	pahoqueue "github.com/eclipse/paho.golang/autopaho/queue"
	"github.com/eclipse/paho.golang/autopaho/queue/file"
)

// filesQueue is the disk queue of autopaho: one file for each message. It calls no fsync, and it
// reads the whole folder to find the oldest file.
type filesQueue struct {
	q      *file.Queue
	folder *os.File // nil: without fsync
	buf    []byte
}

func openFiles(dir string) (queue, error) {
	q, err := file.New(dir, "q", ".msg")
	if err != nil {
		return nil, err
	}
	return &filesQueue{q: q}, nil
}

// openSyncedFiles adds the fsyncs that make an Append durable, from outside of the queue.
func openSyncedFiles(dir string) (queue, error) {
	q, err := file.New(dir, "q", ".msg")
	if err != nil {
		return nil, err
	}
	folder, err := os.Open(dir)
	return &filesQueue{q: q, folder: folder}, err
}

// syncedPacket writes itself to the file of the queue, and so gets access to the file.
type syncedPacket []byte

func (p syncedPacket) Read([]byte) (int, error) { return 0, io.EOF }

func (p syncedPacket) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(p)
	if err == nil {
		err = w.(*os.File).Sync()
	}
	return int64(n), err
}

// plainPacket avoids the buffer of the copy.
type plainPacket []byte

func (p plainPacket) Read([]byte) (int, error) { return 0, io.EOF }

func (p plainPacket) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(p)
	return int64(n), err
}

func (q *filesQueue) Append(packet []byte) error {
	if q.folder == nil {
		return q.q.Enqueue(plainPacket(packet))
	}
	if err := q.q.Enqueue(syncedPacket(packet)); err != nil {
		return err
	}
	return q.folder.Sync()
}

func (q *filesQueue) Take(n int, visit func([]byte)) (int, error) {
	for taken := range n {
		e, err := q.q.Peek()
		if errors.Is(err, pahoqueue.ErrEmpty) {
			return taken, nil
		}
		if err != nil {
			return taken, err
		}
		if err := q.read(e); err != nil {
			return taken, errors.Join(err, e.Leave())
		}
		visit(q.buf)
		if err := e.Remove(); err != nil {
			return taken, err
		}
	}
	return n, nil
}

// read reads a message into buf.
func (q *filesQueue) read(e pahoqueue.Entry) error {
	r, err := e.Reader()
	if err != nil {
		return err
	}
	if q.buf == nil {
		q.buf = make([]byte, 64<<10)
	}
	n, err := io.ReadFull(r, q.buf[:cap(q.buf)])
	q.buf = q.buf[:n]
	if err == io.ErrUnexpectedEOF {
		err = nil
	}
	return err
}

func (q *filesQueue) Flush() error {
	if q.folder == nil {
		return nil
	}
	return q.folder.Sync()
}

func (q *filesQueue) Close() error {
	if q.folder == nil {
		return nil
	}
	return q.folder.Close()
}

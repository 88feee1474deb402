package faultfs

import "io"

// handle is an open file of an [FS]. It refers to the same file even after another file takes its
// name.
type handle struct {
	fs     *FS
	name   string
	number int
	closed bool
}

// WriteAt writes b at off.
func (f *handle) WriteAt(b []byte, off int64) (int, error) {
	return f.fs.do(Op{Kind: Write, Name: f.name, Off: off, Data: append([]byte{}, b...), Len: len(b), file: f.number}, nil)
}

// ReadAt reads the content that processes see.
func (f *handle) ReadAt(b []byte, off int64) (n int, err error) {
	_, err = f.fs.do(Op{Kind: Read, Name: f.name, Off: off, Len: len(b), file: f.number}, func(d *disk) error {
		data := d.inodes[f.number].data
		n = copy(b, data[min(off, int64(len(data))):])
		if n < len(b) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

// Size returns the size that processes see.
func (f *handle) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.fs.now.inodes[f.number].data)), nil
}

// Truncate truncates the file to size bytes, or extends it with zeros.
func (f *handle) Truncate(size int64) error {
	_, err := f.fs.do(Op{Kind: Truncate, Name: f.name, Off: size, file: f.number}, nil)
	return err
}

// Sync makes the content and the size of the file durable, but not its name.
func (f *handle) Sync() error {
	_, err := f.fs.do(Op{Kind: Sync, Name: f.name, file: f.number}, nil)
	return err
}

// Close closes the handle.
func (f *handle) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if in := f.fs.now.inodes[f.number]; !f.closed && in.open > 0 {
		in.open--
	}
	f.closed = true
	return nil
}

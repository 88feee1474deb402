package persistence_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
)

// hangs makes operations of a disk wait until release is called.
func hangs(disk *faultfs.FS, kinds ...faultfs.Kind) (release func()) {
	c := make(chan struct{})
	disk.SetHang(func(op faultfs.Op) <-chan struct{} {
		for _, k := range kinds {
			if op.Kind == k {
				return c
			}
		}
		return nil
	})
	return func() {
		disk.SetHang(nil)
		close(c)
	}
}

// While the disk hangs, Wait and Enqueue block until the context ends or WriteTimeout has passed.
// Enqueued messages are stored when the disk responds.
func TestLog_BoundsWaitsForHangingDisk(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Sync} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := faultfs.New()
				o := persistence.Options{FS: disk, WriteTimeout: 5 * time.Second, Files: persistence.Files{BufferBytes: 8 << 10}}
				l, err := persistence.Open("log", o)
				if err != nil {
					t.Fatal(err)
				}
				release := hangs(disk, kind)
				enqueue := func(ctx context.Context, size int) (persistence.Ticket, error) {
					return l.Enqueue(ctx, &persistence.Message{Packet: bytes.Repeat([]byte("x"), size)})
				}
				took := func(f func() error) (time.Duration, error) {
					began := time.Now()
					err := f()
					return time.Since(began), err
				}
				wait := func(ctx context.Context, ticket persistence.Ticket) func() error {
					return func() error { return l.Wait(ctx, ticket) }
				}
				short := func() context.Context {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					t.Cleanup(cancel)
					return ctx
				}
				first, err := enqueue(t.Context(), 10)
				if err != nil {
					t.Fatal(err)
				}
				if d, err := took(wait(short(), first)); d != time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Wait: %v after %v", err, d)
				}
				second, err := enqueue(t.Context(), 7<<10)
				if err != nil {
					t.Fatal(err)
				}
				if d, err := took(func() error { _, err := enqueue(short(), 7<<10); return err }); d != time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Enqueue into a full buffer: %v after %v", err, d)
				}
				if d, err := took(func() error { _, err := enqueue(t.Context(), 7<<10); return err }); d != 4*time.Second || !errors.As(err, new(*persistence.StalledError)) {
					t.Errorf("Enqueue into a full buffer, without a deadline: %v after %v", err, d)
				}
				if d, err := took(wait(t.Context(), second)); d != 0 || !errors.As(err, new(*persistence.StalledError)) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Wait, without a deadline: %v after %v", err, d)
				}
				if d, err := took(func() error { _, err := enqueue(t.Context(), 1); return err }); d != 0 || !errors.As(err, new(*persistence.StalledError)) {
					t.Errorf("Enqueue, as the disk hangs: %v after %v", err, d)
				}
				if s := l.Stats(); s.Accepted != 2 || s.Pending != 2 {
					t.Errorf("%+v", s)
				}
				closing := make(chan error)
				release()
				if err := l.Sync(); err != nil {
					t.Error(err)
				}
				for _, ticket := range []persistence.Ticket{first, second} {
					if err := l.Wait(t.Context(), ticket); err != nil {
						t.Errorf("the disk answers: %v", err)
					}
				}
				if _, err := persistence.Append(l, &persistence.Message{Packet: []byte("x")}); err != nil {
					t.Error(err)
				}
				go func() { closing <- l.Close() }()
				if err := <-closing; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

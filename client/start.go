package client

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// startTime is the longest time that Start waits for the set-aside messages to be read.
const startTime = time.Second

// Start connects the client, which then reconnects until it ends. Start returns at once. To wait
// for a connection, call AwaitConnection. If the disk does not answer, Start returns after 1 s. The
// client then connects after it has read the list of messages that were set aside. Errors:
// ErrStarted, ErrClosed, ErrNilClient.
//
// When ctx ends, the client closes in the same way as with Close. Wait for Done before the process
// exits. If the cause of ctx is ErrAbort, the client ends without a DISCONNECT, and the server
// publishes the will.
//
// Failed connections and other problems are reported to Config.OnEvent, Config.Logger, Stats and
// State. If the client stops because of a fatal error, it closes Done, and Err returns the error.
func (c *Client) Start(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	begun, err := startTasks(c)
	if err != nil {
		return err
	}
	l := &c.life
	stop := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, ErrAbort) {
			c.end(cause, nil)
		} else {
			c.end(cause, &DisconnectOptions{})
		}
	})
	context.AfterFunc(l.ending, func() { stop() })
	if begun != nil {
		timer := time.NewTimer(startTime)
		defer timer.Stop()
		select {
		case <-begun:
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	return nil
}

// startTasks starts the goroutines of the client. If set-aside messages have to be read first, it
// returns a channel that is closed afterwards.
func startTasks(c *Client) (begun chan struct{}, err error) {
	l := &c.life
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended, l.draining:
		return nil, ErrClosed
	case l.started:
		return nil, ErrStarted
	}
	l.started = true
	if c.aside.empty() {
		beginTasks(c)
		return nil, nil
	}
	begun = make(chan struct{})
	c.run(&l.starting, func() {
		defer close(begun)
		c.aside.restore()
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.ended {
			beginTasks(c)
		}
	})
	return begun, nil
}

// beginTasks starts handling, sending and connecting. The caller holds life.mu.
func beginTasks(c *Client) {
	l := &c.life
	l.begun = true
	c.inbox.Start()
	c.begin(&l.sending, c.outbox.Run)
	c.begin(&l.acknowledging, c.session.RunAcks)
	c.begin(&l.connecting, func(ctx context.Context) {
		c.logFindings()
		c.storeRenewed()
		if err := c.link.Run(ctx); err != nil {
			err = connectionError(err)
			c.log(slog.LevelError, "client stopped", slog.Any("error", err))
			c.end(err, nil)
		}
	})
}

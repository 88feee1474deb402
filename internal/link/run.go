package link

import (
	"context"
	"net/url"
	"slices"
	"time"
)

// End is an attempt that failed, or a connection that ended.
type End struct {
	Server  *url.URL
	Err     error
	Attempt int           // from 1, since there was a connection
	Took    time.Duration // the attempt, or how long the connection stood
	Up      *Up           // nil: the attempt failed
	Detour  bool          // Server is in no list; another one sent us there
}

// Decision is what to do after an End.
type Decision struct {
	Stop      bool          // for good; Run returns the error
	Delay     time.Duration // before the next attempt
	Server    *url.URL      // where the server sends us; nil: the next one in turn
	Permanent bool          // Server takes the place of the one that sent us there; not from a detour
}

// Stood is how long ago the server accepted the connection.
func (u *Up) Stood() time.Duration { return time.Since(u.since) }

// brief is how long a connection must have stood for its server to be tried
// first again. One that drops us at once is like one that refuses.
const brief = 5 * time.Second

// betweenHurries is the least time between two delays that Hurry ends.
const betweenHurries = time.Second

// Run connects, and connects again whenever the connection ends, until ctx is
// done (nil is returned) or Decide says Stop (the error is returned). When it
// returns, no connection is left, and no goroutine but what paho.golang ends
// without being waited for.
func (c *Config) Run(ctx context.Context) error {
	var route route
	route.list = slices.Clone(c.Servers)
	var hurried time.Time
	for attempt := 1; ; attempt++ {
		end := End{Server: route.next(), Attempt: attempt, Detour: route.detour != nil}
		if c.Attempt != nil {
			c.Attempt(end.Server, attempt)
		}
		began := time.Now()
		end.Up, end.Err = c.connect(ctx, end.Server)
		end.Took = time.Since(began)
		if end.Up != nil {
			end.Up.Attempt, end.Up.Took, end.Up.since = attempt, end.Took, time.Now()
			drain(c.Hurry)
			end.Err = c.serve(ctx, end.Up)
			end.Took, attempt = end.Up.Stood(), 0
		}
		if ctx.Err() != nil {
			if end.Up != nil {
				c.Down(end, Decision{})
			}
			return nil
		}
		d := c.Decide(end)
		switch {
		case end.Up != nil:
			c.Down(end, d)
		case !d.Stop && c.Failed != nil:
			c.Failed(end, d)
		}
		if d.Stop {
			return end.Err
		}
		route.after(end, d)
		if !c.pause(ctx, d.Delay, &hurried) {
			return nil
		}
	}
}

// pause waits, and less long where Hurry says so. It returns false when ctx is
// done.
func (c *Config) pause(ctx context.Context, delay time.Duration, hurried *time.Time) bool {
	timer, due := time.NewTimer(delay), time.Now().Add(delay)
	defer timer.Stop()
	for soon := false; ; {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return ctx.Err() == nil
		case <-c.Hurry:
			if soon {
				continue
			}
			// Whoever calls for it at each failure must not make a tight loop of it.
			soon = true
			wait := max(0, min(time.Until(hurried.Add(betweenHurries)), time.Until(due)))
			*hurried = time.Now().Add(wait)
			timer.Reset(wait)
		}
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// route says which server is next.
type route struct {
	list   []*url.URL
	turn   int
	detour *url.URL // a server that is in no list; one of the list sent us there
}

func (r *route) next() *url.URL {
	if r.detour != nil {
		return r.detour
	}
	return r.list[r.turn%len(r.list)]
}

// after moves on: to where the server sends us, or to the same server if its
// connection has stood, because it has the session, or else to the next one.
func (r *route) after(end End, d Decision) {
	switch {
	case d.Server != nil && d.Permanent:
		r.list[r.turn%len(r.list)] = d.Server
	case d.Server != nil:
		r.detour = d.Server
	case end.Up != nil && end.Took >= brief:
	case r.detour != nil:
		r.detour = nil
	default:
		r.turn++
	}
}

// serve lets a connection live until it or ctx ends.
func (c *Config) serve(ctx context.Context, up *Up) error {
	stop := context.AfterFunc(ctx, func() { _ = up.Close() })
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Up(up)
	}()
	<-up.failed
	c.Session.Detach(up.Gen)
	_ = up.Conn.Conn.Close()
	<-up.client.Done()
	<-ended
	return up.Cause()
}

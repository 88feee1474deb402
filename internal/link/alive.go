package link

import "time"

// Alive is when the server last gave a sign of life on this connection: when
// bytes last came from it, by the monotonic clock.
func (c *Conn) Alive() time.Time { return c.start.Add(time.Duration(c.lastRead.Load())) }

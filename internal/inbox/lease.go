package inbox

import (
	"errors"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/callback"
)

// renewLeases renews the leases of all claims until the workers have ended: also for
// messages that are held for order, and handlers that take long.
func (b *Inbox[M]) renewLeases() {
	returned := false
	defer func() {
		if !returned { // runtime.Goexit in Renew
			b.helpers.Go(b.renewLeases)
		}
	}()
	defer b.cfg.Guard.Enter()()
	for {
		select {
		case <-b.finishing.Done():
			returned = true
			return
		case <-b.keys.leased:
		case <-time.After(b.keys.interval()):
			for _, c := range b.keys.due() {
				b.renew(c)
			}
		}
	}
}

// renew renews one lease. A lease that another owner has taken over is not renewed any
// more; the commit will report that, too.
func (b *Inbox[M]) renew(c dedupe.Claim) {
	renewed, err := c, error(nil)
	if p := callback.Try(func() { renewed, err = b.cfg.Dedupe.Renew(b.finishing, c) }); p != nil {
		err = p
	}
	switch {
	case b.finishing.Err() != nil:
	case err == nil:
		b.keys.renewed(renewed)
	default:
		if errors.Is(err, dedupe.ErrClaimLost) {
			c.Expires = time.Time{}
			b.keys.renewed(c)
		}
		b.cfg.Observer.StoreFailed(err)
	}
}

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
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for b.finishing.Err() == nil {
		claims, next := b.keys.due()
		for _, c := range claims {
			b.renew(c)
		}
		if len(claims) > 0 {
			continue
		}
		var due <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			due = timer.C
		}
		select {
		case <-b.finishing.Done():
		case <-b.keys.earlier:
		case <-due:
		}
	}
	returned = true
}

// renew renews one lease. If that fails, it is tried again when a third of the rest has
// passed. If another owner has the key, it is not: the commit will report that too.
func (b *Inbox[M]) renew(c dedupe.Claim) {
	b.keys.renewed(c)
	renewed, err := c, error(nil)
	if p := callback.Try(func() { renewed, err = b.cfg.Dedupe.Renew(b.finishing, c) }); p != nil {
		err = p
	}
	switch {
	case err == nil:
		b.keys.renewed(renewed)
		return
	case b.finishing.Err() != nil:
		return
	case errors.Is(err, dedupe.ErrClaimLost):
		c.Expires = time.Time{}
		b.keys.renewed(c)
	}
	b.cfg.Observer.DedupeFailed(err)
}

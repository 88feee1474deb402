package persistence

import "fmt"

// dropped checks which messages Enqueue dropped for a message: those that the policy requires.
// Either all of these drops are on disk or none.
func (a *actor) dropped(x message, drops []Drop, before int) error {
	if len(drops) == 0 {
		return nil
	}
	if x.seq == 0 {
		return violation{fmt.Errorf("%v dropped for a message that was refused", drops)}
	}
	if a.fsys.Len() != before {
		return violation{fmt.Errorf("%v dropped, and something was written before the program knew", drops)}
	}
	for _, d := range drops {
		old := a.about[d.Seq]
		if old == nil || !a.droppable(old) {
			return violation{fmt.Errorf("%+v was dropped, but it was sent or is done: %+v", d, old)}
		}
		if d.Cause == Conflated && (x.conflate == 0 || old.conflate != x.conflate) {
			return violation{fmt.Errorf("%+v took the place of %+v", x, old)}
		}
		if want := a.oldest(x.priority); d.Cause == DroppedOldest && want != d.Seq {
			return violation{fmt.Errorf("message %d was dropped, the oldest is %d", d.Seq, want)}
		}
		a.ends(d.Seq, Result{Kind: Dropped})
		a.note(func(m *model) { m.madeRoom[d.Seq] = x.seq })
	}
	if limit := a.start.o.Limits.MaxMessages; len(a.live) >= limit {
		return violation{fmt.Errorf("%d messages are pending, and one was accepted: at most %d", len(a.live), limit)}
	}
	return nil
}

func (a *actor) droppable(x *message) bool {
	for _, seq := range a.live {
		if seq == x.seq {
			return !x.released && x.number > a.sent[x.priority]
		}
	}
	return false
}

// oldest returns the message that DropOldest drops for a message of a priority.
func (a *actor) oldest(p Priority) (seq uint64) {
	for q := Normal; q <= p && seq == 0; q++ {
		for _, s := range a.live {
			if x := a.about[s]; seq == 0 && x != nil && x.priority == q && a.droppable(x) {
				seq = s
			}
		}
	}
	return seq
}

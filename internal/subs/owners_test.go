package subs

import (
	"fmt"
	"testing"
)

// This file tests filters that several owners use (the application, a view and the status), and the
// subscriptions of views.

func TestTable_SharesAFilterBetweenApplicationAndView(t *testing.T) {
	s := serve(t)
	s.sub(Want{Filter: "a/+", QoS: 2, NoLocal: true})
	s.connect(false, all)
	s.want("a/+ q2 nl rh0")
	s.report = nil
	s.table.Set(View, Want{Filter: "a/+", RetainAsPublished: true, ID: ViewID})
	s.want(fmt.Sprintf("a/+ q2 nl rap rh0 id%d", ViewID))
	s.table.Set(View, Want{Filter: "a/+", QoS: 1, RetainHandling: 2, ID: ViewID + 1})
	s.want(fmt.Sprintf("a/+ q2 nl rh2 id%d", ViewID+1))
	s.results("3 a/+ granted", "3 a/+ granted")

	// The application subscribes again, so the view must fetch again.
	s.sub(Want{Filter: "a/+", QoS: 1, ID: 7})
	s.want("a/+ q1 rh0 id7")
	s.results("3 a/+ displaced")
	s.table.Set(View, Want{Filter: "a/+", ID: ViewID + 2})
	s.want(fmt.Sprintf("a/+ q1 rh0 id%d", ViewID+2))
	s.report = nil

	// The view ends, and the application gets its subscription back.
	if s.table.Remove(View, "a/+") {
		t.Error("ended without a request")
	}
	s.want("a/+ q1 rh2 id7")
	s.results("3 a/+ ended")

	// The reverse case.
	s.table.Set(View, Want{Filter: "a/+", ID: ViewID + 4})
	s.want(fmt.Sprintf("a/+ q1 rh0 id%d", ViewID+4))
	s.report = nil
	r := s.unsub("a/+")
	s.want(fmt.Sprintf("a/+ q0 rh2 id%d", ViewID+4))
	s.results("3 a/+ displaced")
	if err := done(t, r); err != nil {
		t.Error(err)
	}
	s.table.Remove(View, "a/+")
	s.want("-a/+")
	if s.table.entries.Len() != 0 {
		t.Error("the entry is still there")
	}
}

// A view that ends before its SUBSCRIBE is answered is ended at the server after the answer.
func TestTable_EndsAViewWithAnUnansweredRequest(t *testing.T) {
	s := serve(t)
	s.connect(false, all)
	s.table.Set(View, Want{Filter: "a", ID: ViewID})
	batch := s.next()
	if s.table.Remove(View, "a") {
		t.Error("ended, although the SUBSCRIBE is out")
	}
	s.has["a"] = batch[0].want
	s.report = s.table.done(batch[0], nil)
	s.want("-a")
	s.results("3 a granted", "3 a ended")

	// This also applies if the application shares the filter. Until it has its subscription back,
	// its messages have the view's identifier.
	s.sub(Want{Filter: "c"})
	s.want("c q0 rh0")
	s.table.Set(View, Want{Filter: "c", ID: ViewID})
	batch = s.next()
	if s.table.Remove(View, "c") {
		t.Error("ended, although the SUBSCRIBE is out")
	}
	s.report = s.table.done(batch[0], nil)
	s.want("c q0 rh2")
	s.results("3 c granted", "3 c ended")

	// A subscription that the application cannot get back stays unchanged.
	s.sub(Want{Filter: "b"})
	s.table.Set(View, Want{Filter: "b", ID: ViewID})
	s.want("b q0 rh0", fmt.Sprintf("b q0 rh0 id%d", ViewID))
	s.report = nil
	s.refuse["b"] = true
	s.table.Remove(View, "b")
	s.want("b q0 rh2")
	s.results("3 b ended refused")
}

// A view's subscription is requested each time it is set, and not restored.
func TestTable_DoesNotRestoreViews(t *testing.T) {
	s := serve(t)
	s.table.Set(View, Want{Filter: "a", ID: ViewID})
	for range 2 {
		s.connect(false, all)
		s.want()
		s.table.Set(View, Want{Filter: "a", ID: ViewID})
		s.want(fmt.Sprintf("a q0 rh0 id%d", ViewID))
	}
	s.table.detach()
	s.report = nil
	if s.table.Remove(View, "a") {
		t.Error("the session may still have it")
	}
	s.connect(false, all)
	s.want()
	s.results("3 a ended")
}

func TestTable_OmitsACoveredStatusSubscription(t *testing.T) {
	s := serve(t)
	const status = "d/c/status"
	own := Want{Filter: status, QoS: 1, ID: StatusID}
	asks := fmt.Sprintf("d/c/status q1 rh0 id%d", StatusID)
	s.table.Set(Status, own)
	s.sub(Want{Filter: "commands"})
	s.connect(false, all)
	s.want("commands q0 rh0", asks)
	s.table.Set(Status, own)
	s.want()
	for _, filter := range []string{"d/#", "+/c/+"} {
		s.sub(Want{Filter: filter})
		s.want(filter+" q0 rh0", "-"+status)
		s.unsub(filter)
		s.want("-"+filter, asks)
	}
	s.sub(Want{Filter: "$share/g/d/#"})
	s.sub(Want{Filter: "d/+/status", NoLocal: true})
	s.want("$share/g/d/# q0 rh0, d/+/status q0 nl rh0")

	// With exactly this filter there is only one subscription.
	s.sub(Want{Filter: status, NoLocal: true})
	s.want("d/c/status q0 nl rh0")
	s.unsub(status)
	s.want(fmt.Sprintf("d/c/status q1 rh2 id%d", StatusID))
	s.table.Set(View, Want{Filter: status, ID: ViewID})
	s.want(fmt.Sprintf("d/c/status q0 rh0 id%d", ViewID))
	s.table.Remove(View, status)
	s.want(fmt.Sprintf("d/c/status q1 rh2 id%d", StatusID))
	s.report = nil

	// After a refusal, the request is repeated on the next connection, not before.
	s.refuse[status] = true
	s.connect(false, all)
	s.want("commands q0 rh0, $share/g/d/# q0 rh0, d/+/status q0 nl rh0", asks)
	s.unsub("d/+/status")
	s.want("-d/+/status")
	s.connect(true, all)
	s.want(fmt.Sprintf("d/c/status q1 rh1 id%d", StatusID))
	s.table.Remove(Status, status)
	s.want()
}

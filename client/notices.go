package client

import (
	"context"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

// EventsMissed reports how many events were dropped because 4 MiB of events were waiting for
// OnEvent. OnEvent receives it in place of the dropped events. Calls of OnStateChange, OnCorruption
// and OnDegraded wait in the same queue and count as events.
type EventsMissed struct{ Missed int }

// CallbackPanicked reports a panic of a function of the application. Panics of handlers are
// reported by HandlerFailed instead. A panic of OnEvent is only logged.
type CallbackPanicked struct {
	Function string // name of the function, such as "OnChange", "OnStateChange" or "Logger"
	Err      *PanicError
}

func (EventsMissed) event()     {}
func (CallbackPanicked) event() {}

// maxNotices bounds the notices that wait for the application, in bytes.
const maxNotices = 4 << 20

// notices calls the functions that inform the application: OnEvent, OnStateChange, OnCorruption and
// OnDegraded. A queue calls them one after another, so these functions may call all methods of the
// client.
type notices struct {
	queue   *callback.Queue[notice]
	onEvent func(Event) // nil: the application has none
	dropped func(n int) // logs that notices were dropped
	missed  atomic.Uint64
}

// notice is one call of such a function.
type notice struct {
	function string // its name
	call     func()
	event    Event // the argument of OnEvent
}

// init sets the functions: call calls a function of the application and reports its panic.
func (n *notices) init(onEvent func(Event), call func(notice), dropped func(int)) {
	n.onEvent, n.dropped = onEvent, dropped
	n.queue = callback.NewQueue(callback.QueueConfig[notice]{
		Call:   call,
		Size:   func(x notice) int { return 128 + eventBytes(x.event) },
		Missed: func(lost int) notice { return n.of(EventsMissed{Missed: lost}) },
		Most:   maxNotices,
	})
}

// of returns the notice of an event.
func (n *notices) of(e Event) notice {
	return notice{"OnEvent", func() {
		if n.onEvent != nil {
			n.onEvent(e)
		}
	}, e}
}

// add adds a call. It does not wait.
func (n *notices) add(x notice) {
	if !n.queue.Add(x) {
		n.missed.Add(1)
		n.dropped(1)
	}
}

// finish adds the last event and waits until OnEvent has returned from it. Earlier notices that are
// not delivered within the given time are dropped.
func (n *notices) finish(last Event, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if lost := n.queue.Finish(ctx, n.of(last)); lost > 0 {
		n.missed.Add(uint64(lost))
		n.dropped(lost)
	}
}

// owned returns e with a copy of its message, which handlers may change while OnEvent reads it.
func owned(e Event) Event {
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		if f := v.Field(i); f.Type() == messageType && !f.IsNil() {
			own := reflect.New(v.Type()).Elem()
			own.Set(v)
			own.Field(i).Set(reflect.ValueOf(f.Interface().(*Message).clone()))
			return own.Interface().(Event)
		}
	}
	return e
}

var errorType, messageType = reflect.TypeFor[error](), reflect.TypeFor[*Message]()

// eventBytes estimates the memory of an event, which may be nil.
func eventBytes(e Event) (n int) {
	if e == nil {
		return 0
	}
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case f.Kind() == reflect.String:
			n += f.Len()
		case f.Type() == messageType && !f.IsNil():
			n += f.Interface().(*Message).size()
		case f.Type() == errorType && !f.IsNil():
			n += 512 // texts of the server in errors are cut
		}
	}
	return n
}

package client

import "time"

// ReceiveBlocked reports that the client can receive no further message, because the handler of one
// message fails or does not return. The event is reported after 5 s, and then every 30 s.
type ReceiveBlocked struct {
	Topic    string
	Since    time.Time // when the message was received
	Attempts int       // failed attempts
	Waiting  int       // later messages whose acknowledgements wait for this one
}

// HandlerSlow reports that one call of a handler has taken longer than
// ReceivingConfig.SlowHandlerAfter. The event is repeated while the call lasts, at intervals that
// double: by default after 10 s, 20 s, 40 s and so on. Messages of the same worker wait, see
// [Handler].
type HandlerSlow struct {
	Topic    string
	Duration time.Duration // since the call began
	Waiting  int           // received messages that wait for the same worker, also those of other topics
}

func (ReceiveBlocked) event() {}
func (HandlerSlow) event()    {}

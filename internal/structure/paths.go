package main

// pathsBefore are the paths at commit e2bd7dc, by the same rule.
var pathsBefore = []path{
	{
		name:     "publish",
		packages: []string{"client"},
		entries: []string{
			"client.(*Client).Publish",
			"client.(*Client).drain",   // the goroutine that sends
			"client.(*Client).settled", // the session reports an acknowledgement
		},
		ends: []string{
			"persistence.(Store).Enqueue",
			"internal/session.(*Generation).Publish",
			"client.(*Delivery).resolve",
		},
	},
	{
		name:     "receive",
		packages: []string{"client"},
		entries: []string{
			"client.(*Client).receive", // the session delivers a message
			"client.(*lane).run",       // the goroutine that handles messages
		},
		ends: []string{
			"client.(Handler).Handle",
			"internal/session.(*Session).Complete",
		},
	},
}

// pathsNow are the paths of the present code.
var pathsNow = []path{
	{
		name:     "publish",
		packages: []string{"client", "internal/outbox"},
		entries: []string{
			"client.(*Client).Publish",
			"internal/outbox.(*Outbox).Run",          // the goroutine that sends
			"internal/outbox.(*Outbox).Acknowledged", // the session reports an acknowledgement
		},
		ends: []string{
			"persistence.(Outbox).Enqueue",
			"internal/session.(*Generation).Publish",
			"internal/outbox.(*Waiter).Resolve",
		},
	},
	{
		name:     "receive",
		packages: []string{"client", "internal/inbox"},
		entries: []string{
			"client.(receiver).receive",    // the session delivers a message
			"internal/inbox.(*worker).run", // the goroutine that handles messages
			"client.(receiver).handle",     // the inbox calls the handlers
		},
		ends: []string{
			"client.(Handler).Handle",
			"internal/session.(*Session).Complete",
		},
	},
}

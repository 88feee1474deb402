package main

import (
	"context"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// runBroker is the broker's process: the in-process broker of mqtttest, with
// its sessions in a folder.
func runBroker(ctx context.Context, o options) error {
	b, err := mqtttest.New(mqtttest.Options{Addr: o.server, Dir: o.dir})
	if err != nil {
		return err
	}
	tell("ready", b.URL())
	<-ctx.Done()
	return b.Close()
}

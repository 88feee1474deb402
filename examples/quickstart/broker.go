package main

import (
	"context"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// runBroker runs the broker process: a broker of mqtttest that stores its sessions in a folder.
func runBroker(ctx context.Context, o options) error {
	b, err := mqtttest.New(mqtttest.Options{Addr: o.server, Dir: o.dir})
	if err != nil {
		return err
	}
	report("ready", b.URL())
	<-ctx.Done()
	return b.Close()
}

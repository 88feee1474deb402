// Hello runs a device, a backend and a broker in one process.
//
//	go run ./examples/hello
//
// The device publishes ten readings. The broker is killed after the fifth, and starts
// again after the last. The program checks that the backend handles each reading once,
// in order, and ends with status 1 if not. docs/guides/getting-started.md has the same
// device and backend as separate programs.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

const readings = 10

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "hello")
	if err == nil {
		err = errors.Join(run(ctx, dir, client.ExactlyOnce), os.RemoveAll(dir))
	}
	if err != nil {
		slog.Error("hello failed", "error", err)
		os.Exit(1)
	}
}

// run runs all parts. The device publishes with this QoS.
func run(ctx context.Context, dir string, qos client.QoS) error {
	options := mqtttest.Options{Dir: filepath.Join(dir, "broker")}
	b, err := mqtttest.New(options)
	if err != nil {
		return err
	}
	defer b.Close()

	backend, err := client.New(client.Config{
		Servers: []string{b.URL()}, ClientID: "backend", Dir: filepath.Join(dir, "backend"),
		Receiving: client.ReceivingConfig{Ordering: &client.Ordering{}},
	})
	if err != nil {
		return err
	}
	defer backend.Close()
	received := make(chan string, 2*readings)
	_, err = backend.Subscribe(ctx, "pump/+/rpm", client.ExactlyOnce, client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		received <- string(m.Payload)
		return nil
	}))
	if err != nil {
		return err
	}
	device, err := client.New(client.Config{
		Servers: []string{b.URL()}, ClientID: "pump-7", Dir: filepath.Join(dir, "pump-7"),
		Publishing: client.PublishingConfig{Sequenced: true},
	})
	if err != nil {
		return err
	}
	defer device.Close()
	if err := errors.Join(backend.Start(ctx), device.Start(ctx), b.WaitSubscribed(ctx, "backend", "pump/+/rpm"), b.WaitConnected(ctx, "pump-7")); err != nil {
		return err
	}

	for n := range readings {
		if n == readings/2 {
			b.Kill()
		}
		if _, err := device.Publish(ctx, client.Message{Topic: "pump/7/rpm", Payload: fmt.Append(nil, n), QoS: qos}); err != nil {
			return err
		}
	}
	options.Addr = b.Addr()
	again, err := mqtttest.New(options) // with the state of the first one
	if err != nil {
		return err
	}
	defer again.Close()
	if err := device.Drain(ctx); err != nil { // the broker has all readings
		return err
	}
	if err := again.WaitFor(ctx, func() bool { return len(again.Queue("backend")) == 0 }); err != nil { // the backend has them
		return err
	}
	for n := range readings {
		select {
		case reading := <-received:
			fmt.Println("received", reading)
			if reading != fmt.Sprint(n) {
				return fmt.Errorf("received %s, want %d", reading, n)
			}
		default:
			return fmt.Errorf("reading %d is missing", n)
		}
	}
	if len(received) > 0 {
		return fmt.Errorf("received %d readings too many", len(received))
	}
	return nil
}

package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

func ExampleBackoff() {
	b := reliability.Backoff{Rand: func() float64 { return 0.5 }} // the default is random
	for attempt := range 4 {
		fmt.Println(b.Delay(attempt))
	}
	fmt.Println(b.Delay(1000))
	// Output:
	// 150ms
	// 250ms
	// 450ms
	// 850ms
	// 30.05s
}

func ExampleRetry() {
	retry := reliability.Retry{Backoff: reliability.Backoff{Rand: func() float64 { return 0 }}}
	retry.Up()   // connected
	retry.Down() // and dropped at once
	fmt.Println("wait", retry.Next(), "before attempt", retry.Attempts())
	retry.Up()
	retry.Down()
	fmt.Println("wait", retry.Next(), "before attempt", retry.Attempts())
	// Output:
	// wait 100ms before attempt 1
	// wait 100ms before attempt 2
}

func ExampleBreaker() {
	b := reliability.NewBreaker(reliability.BreakerOptions{
		FailureThreshold: 2,
		OnStateChange:    func(from, to reliability.State) { fmt.Println(from, "to", to) },
	})
	for range 3 {
		done, err := b.Allow()
		var open *reliability.OpenError
		if errors.As(err, &open) {
			fmt.Println("try again in", open.RetryAfter.Round(time.Second))
			continue
		}
		done(errors.New("connection refused"))
	}
	// Output:
	// closed to open
	// try again in 1m0s
}

func ExampleClassify() {
	for _, code := range []byte{0x00, 0x87, 0x97, 0x8E} {
		class := reliability.Classify(code)
		fmt.Printf("0x%02X %s: %v, retry %v\n", code, reliability.ReasonName(code), class, class.Retryable())
	}
	// Output:
	// 0x00 Success: success, retry false
	// 0x87 Not authorized: not authorized, retry false
	// 0x97 Quota exceeded: quota, retry true
	// 0x8E Session taken over: takeover, retry false
}

func ExampleAwait() {
	acked := make(chan struct{}) // never comes
	err := reliability.Await(context.Background(), time.Millisecond, acked)
	var timeout *reliability.TimeoutError
	fmt.Println(errors.As(err, &timeout), timeout.After)
	// Output:
	// true 1ms
}

func ExampleAdvise() {
	a := reliability.Advise(reliability.Traits{DuplicatesTolerable: true})
	fmt.Printf("QoS %d: %s; %d packets\n", a.QoS, a.Reason, a.Cost().Packets)
	// Output:
	// QoS 1: it must arrive, and a duplicate does no harm; 2 packets
}

func ExampleForCategory() {
	for _, c := range []reliability.Category{
		reliability.SensorData, reliability.Location, reliability.LogsMetrics, reliability.Alert,
		reliability.Configuration, reliability.Command, reliability.Financial, reliability.Security,
	} {
		a := reliability.ForCategory(c)
		fmt.Printf("%v (%s): QoS %d, %s\n", c, c.Examples(), a.QoS, a.Reason)
	}
	// Output:
	// sensor data (temperature, humidity, light): QoS 0, periodic: the next reading replaces a lost one
	// location (GPS, beacons): QoS 0, current data matters more than complete data
	// logs and metrics (system logs, performance data): QoS 0, large volume; partial loss is acceptable
	// alerts and notifications (anomaly detected, warning): QoS 1, it must arrive
	// configuration changes (new threshold, mode change): QoS 1, it must arrive; setting a value twice is idempotent
	// control commands (opening a valve, driving a motor): QoS 2, executing it twice is dangerous
	// financial data (billing, sales): QoS 2, required by law, and nothing may be counted twice
	// security (access grants, authentication): QoS 2, each event must be processed exactly once
}

package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/examples/internal/results"
)

// judge compares the accepted readings with the delivered ones and prints the table.
func (s *stage) judge() error {
	rows, err := s.results()
	if err != nil {
		return err
	}
	r := s.referee
	lost, twice, wrong := r.missing(rows), duplicates(rows), misordered(rows)

	r.mu.Lock()
	defer r.mu.Unlock()
	var accepted, acked, failed, pending, disk uint64
	if _, err := fmt.Sscan(r.stats, &accepted, &acked, &failed, &pending, &disk); err != nil {
		return fmt.Errorf("the device did not report its final counters: %w", err)
	}
	d, b := s.deviceLink.Stats(), s.backendLink.Stats()
	cuts := d.Cuts + b.Cuts
	device, backend := r.links["device"], r.links["backend"]

	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	line("accepted", "%d  (%d known to the referee; a kill can lose the last report)", accepted, len(r.accepted))
	line("acked", "%d", acked)
	line("delivered", "%d", len(rows)-len(twice))
	line("lost", "%d", len(lost))
	line("duplicated", "%d", len(twice))
	line("out of order", "%d", len(wrong))
	line("gaps", "%d", r.gaps)
	line("link cuts", "%d  (%d packets torn, %d lost)", cuts, d.Torn+b.Torn, d.Lost+b.Lost)
	line("kills", "device %d, backend %d, broker restarts %d", s.deviceKills, s.backendKills, s.brokerRestarts)
	line("reconnects", "device %d, backend %d", max(0, device.ups-1), max(0, backend.ups-1))
	line("longest outage", "device %v, backend %v", device.longest.Round(time.Millisecond), backend.longest.Round(time.Millisecond))
	median, p99 := quantiles(r.latency)
	line("accept latency", "median %v, 99th percentile %v", median, p99)
	median, p99 = quantiles(endToEnd(rows))
	line("end-to-end latency", "median %v, 99th percentile %v  (outages included)", median, p99)
	line("on disk per message", "%d bytes", disk/max(1, accepted))
	line("duplicates suppressed", "%d  (by the backend's last process)", r.suppress)
	if err := w.Flush(); err != nil {
		return err
	}
	for _, note := range r.notes {
		if n := r.times[note]; n > 1 {
			note = fmt.Sprintf("%s (%d times)", note, n)
		}
		fmt.Println("note:", note)
	}

	broken := append(wrongRows(lost, twice, wrong), wrongCounts(accepted, acked, failed, pending, len(rows)-len(twice))...)
	if len(r.accepted) == 0 {
		broken = append(broken, "no message was accepted, so the run shows nothing")
	}
	if least := s.o.cuts * 10 / 18; cuts < least {
		broken = append(broken, fmt.Sprintf("only %d link cuts took place; the run needs at least %d", cuts, least))
	}
	if len(broken) > 0 {
		for _, b := range broken {
			fmt.Println("BROKEN:", b)
		}
		return errVerdict
	}
	fmt.Println("kept: every accepted message was delivered, once and in order")
	return nil
}

// wrongRows describes the readings that are lost, duplicated or out of order.
func wrongRows(lost []client.MessageID, twice, wrong []results.Row) (broken []string) {
	if len(lost) > 0 {
		broken = append(broken, fmt.Sprintf("%d accepted messages were lost, for example %v", len(lost), lost[0]))
	}
	if len(twice) > 0 {
		broken = append(broken, fmt.Sprintf("%d messages were delivered twice, for example %v on %s", len(twice), twice[0].ID, twice[0].Topic))
	}
	if len(wrong) > 0 {
		broken = append(broken, fmt.Sprintf("%d messages were out of order, for example %v on %s", len(wrong), wrong[0].ID, wrong[0].Topic))
	}
	return broken
}

// wrongCounts compares the counters of the device with each other and with the number of readings in
// the backend's file.
func wrongCounts(accepted, acked, failed, pending uint64, kept int) (broken []string) {
	if pending > 0 || accepted != acked+failed+pending {
		broken = append(broken, fmt.Sprintf("the counters do not add up: accepted %d, acked %d, failed %d, pending %d", accepted, acked, failed, pending))
	}
	if pending == 0 && kept != int(acked) {
		broken = append(broken, fmt.Sprintf("%d messages were acknowledged, but %d delivered", acked, kept))
	}
	return broken
}

func endToEnd(rows []results.Row) (all []time.Duration) {
	for _, row := range rows {
		all = append(all, time.Duration(row.ReceivedAt-row.SentAt))
	}
	return all
}

func quantiles(all []time.Duration) (median, p99 time.Duration) {
	if len(all) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2].Round(10 * time.Microsecond), sorted[len(sorted)*99/100].Round(10 * time.Microsecond)
}

package subs

import (
	"fmt"
	"testing"
	"time"
)

// The time to declare filters is proportional to their number.
func TestTable_ManyFilters(t *testing.T) {
	took := func(n int) time.Duration {
		begin := time.Now()
		many(t, n)
		return time.Since(begin)
	}
	took(1000)
	few, all := took(2500), took(40_000)
	t.Logf("2,500 filters: %v; 40,000: %v", few, all)
	if all > 16*5*few {
		t.Errorf("16 times as many took %.0f times as long", all.Seconds()/few.Seconds())
	}
}

// many declares filters, half of them before the connection, and makes the server answer.
func many(t testing.TB, n int) {
	s := &server{table: New(Config{}), has: map[string]Want{}, refuse: map[string]bool{}, ready: true}
	for i := range n {
		if i == n/2 {
			s.connect(false, all)
		}
		filter := fmt.Sprintf("devices/%d/+", i)
		s.sub(Want{Filter: filter, ID: FilterID(filter, 0)})
	}
	for s.answer() {
	}
	if len(s.has) != n || len(s.table.List()) != n {
		t.Fatal(len(s.has))
	}
}

func BenchmarkTable_TenThousandFilters(b *testing.B) {
	for b.Loop() {
		many(b, 10_000)
	}
}

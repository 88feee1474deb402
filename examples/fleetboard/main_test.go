package main

import (
	"testing"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

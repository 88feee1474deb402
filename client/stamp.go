package client

import "github.com/mooring-mqtt/mooring/persistence"

// streamSuffixes distinguish the streams of one topic by priority. They follow the
// publisher's name in the packet, so that receivers see several publishers.
var streamSuffixes = [persistence.Priorities]string{"", "+high", "+urgent"}

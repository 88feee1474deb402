package link

import (
	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Farewell is the DISCONNECT that ends a connection in good order.
type Farewell struct {
	Reason        byte
	ReasonString  string
	User          []wire.UserProperty
	SessionExpiry *uint32 // seconds; nil: as CONNECT said
}

// Disconnect ends the connection with a DISCONNECT. What would make it larger than
// the server takes is left out [MQTT-3.14.2-3] [MQTT-3.14.2-4].
func (u *Up) Disconnect(f Farewell) error {
	d := f.packet()
	if u.fits(d.Packet()) != nil {
		f.User = nil
		d = f.packet()
	}
	if u.fits(d.Packet()) != nil {
		f.ReasonString = ""
		d = f.packet()
	}
	return u.client.Disconnect(d)
}

func (f *Farewell) packet() *paho.Disconnect {
	d := &paho.Disconnect{ReasonCode: f.Reason}
	if f.SessionExpiry == nil && f.ReasonString == "" && len(f.User) == 0 {
		return d
	}
	d.Properties = &paho.DisconnectProperties{SessionExpiryInterval: f.SessionExpiry, ReasonString: f.ReasonString}
	for _, p := range f.User {
		d.Properties.User.Add(p.Key, p.Value)
	}
	return d
}

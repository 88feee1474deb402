package mqtttest

import (
	"context"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func (c *conn) authenticate(p *control.Connect) (reason byte) {
	hook := c.b.opts.Authenticate
	if hook == nil {
		return 0
	}
	c.hooks[ToServer].call("Options.Authenticate", c.clientID, func(ctx context.Context) { reason = hook(ctx, p.ClientID, p.Username, p.Password) })
	switch {
	case reason == 0 || reason >= 0x80:
		return reason
	case reason == 4:
		return reasonBadUserOrPassword
	case reason == 5:
		return wire.ReasonNotAuthorized
	}
	return wire.ReasonUnspecifiedError
}

func (c *conn) authorize(topic string, write bool) (reason byte) {
	if hook := c.b.opts.Authorize; hook != nil {
		c.hooks[ToServer].call("Options.Authorize", c.clientID, func(ctx context.Context) { reason = hook(ctx, c.clientID, topic, write) })
	}
	return reason
}

// watch calls OnPacket with a packet. It returns false if the connection must end.
func (c *conn) watch(dir Direction, packet []byte) bool {
	hook := c.b.opts.OnPacket
	if hook == nil {
		return true
	}
	c.hooks[dir].call("Options.OnPacket", c.clientID, func(ctx context.Context) { hook(ctx, dir, c.clientID, packet[:len(packet):len(packet)]) })
	c.b.state.Lock()
	defer c.b.state.Unlock()
	return dir == ToServer && !c.closing || dir == ToClient && !c.severed
}

// change returns the bytes to send in place of a packet. ok is false if the connection must end.
func (c *conn) change(f *Fault, packet []byte) (out []byte, ok bool) {
	c.hooks[ToClient].call("the function of Reply.Edit", c.clientID, func(context.Context) { out = f.change(packet) })
	c.b.state.Lock()
	defer c.b.state.Unlock()
	return out, !c.severed
}

// stuckHook returns an error that names a hook that has not returned, or nil.
func (b *Broker) stuckHook() error {
	b.state.Lock()
	defer b.state.Unlock()
	for c := range b.conns {
		for i := range c.hooks {
			if call := c.hooks[i].running.Load(); call != nil {
				return fmt.Errorf("mqtttest: %s, called for client %q, has not returned within %v after its context ended; return when it ends", call.hook, call.clientID, hookLimit)
			}
		}
	}
	return nil
}

// insideHook reports whether the calling goroutine is inside a hook.
func (b *Broker) insideHook() bool {
	b.state.Lock()
	defer b.state.Unlock()
	for c := range b.conns {
		if c.hooks[ToServer].inside() || c.hooks[ToClient].inside() {
			return true
		}
	}
	return false
}

package mqtttest

// proxyBodyLimit is the maximum length of the body that OnPacket receives. The proxy holds back
// this part of a packet until the hook returns.
const proxyBodyLimit = 256 << 10

type proxyHook func(dir Direction, header byte, body []byte) Action

// proxyRules are the pending packet faults of one direction. They apply to the first matching
// packet of any connection.
type proxyRules struct {
	inside [16]int // number of packets of each type to truncate
	lose   []proxyLoss
	after  int // bytes until a cut
	cut    bool
}

// proxyLoss is one call of LoseNext.
type proxyLoss struct {
	types uint16 // one bit per packet type
	left  int
}

// CutInside truncates the next packet of type t in direction dir. It forwards the first half of the
// packet and then cuts the connection. Each call applies to one more packet.
func (p *Proxy) CutInside(dir Direction, t PacketType) {
	p.arm(dir, func(r *proxyRules) { r.inside[t&0x0F]++ })
}

// Lose drops the next packet of one of the types in direction dir, and then cuts the connection.
// Without types, it drops the next packet of any type. It is the same as LoseNext with n = 1.
func (p *Proxy) Lose(dir Direction, types ...PacketType) { p.LoseNext(dir, 1, types...) }

// LoseNext drops the next n packets of the given types in direction dir, and then cuts the
// connection. Without types, it drops packets of any type. After the first dropped packet, the
// connection delivers nothing more in this direction, like a TCP connection that loses bytes. If
// the connection ends before n packets were dropped, the proxy drops the remaining number on the
// next connection. Several calls take effect one after the other.
func (p *Proxy) LoseNext(dir Direction, n int, types ...PacketType) {
	if n < 1 {
		return
	}
	loss := proxyLoss{left: n}
	for _, t := range types {
		loss.types |= 1 << (t & 0x0F)
	}
	if len(types) == 0 {
		loss.types = ^uint16(0)
	}
	p.arm(dir, func(r *proxyRules) { r.lose = append(r.lose, loss) })
}

// OnPacket sets a hook that decides what happens to each packet, before other packet faults apply.
// nil removes the hook. The proxy does not call the hook for a packet that it has already partly
// forwarded. The slice body is truncated at 256 KiB and valid only during the call.
//
// The hook runs on the goroutine that forwards the bytes. There is one such goroutine for each
// connection and direction, so the hook may be called concurrently. The connection and Close wait
// for the hook. The hook may call any method of the Proxy. If it calls Cut, its own connection ends
// before the packet, like with ActionCutBefore.
func (p *Proxy) OnPacket(hook func(dir Direction, header byte, body []byte) Action) {
	if hook == nil {
		p.hook.Store(nil)
		return
	}
	h := proxyHook(hook)
	p.hook.Store(&h)
}

// ClearFaults removes all pending faults and the OnPacket hook. It also resets Stall, Delay,
// Throttle, Fragment, Refuse and Blackhole. Schedules continue.
func (p *Proxy) ClearFaults() {
	p.OnPacket(nil)
	p.mu.Lock()
	p.rules = [2]proxyRules{}
	p.refuse, p.blackhole = false, false
	p.armed[ToServer].Store(false)
	p.armed[ToClient].Store(false)
	p.mu.Unlock()
	p.reshape(func(s *proxyShape) { *s = proxyShape{changed: s.changed} })
}

// arm changes the rules of dir and informs the pumps.
func (p *Proxy) arm(dir Direction, change func(*proxyRules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.rules[dir])
	p.armed[dir].Store(p.rules[dir].waiting())
}

func (r *proxyRules) waiting() bool {
	return r.inside != [16]int{} || len(r.lose) > 0 || r.cut
}

// watch implements proxyJudge.
func (m *proxyPump) watch() (packets bool, body int) {
	if m.p.hook.Load() != nil {
		return true, proxyBodyLimit
	}
	return m.p.armed[m.dir].Load(), 0
}

// judge applies the hook first, then the rules.
func (m *proxyPump) judge(header byte, body []byte) proxyVerdict {
	if hook := m.p.hook.Load(); hook != nil {
		m.p.hooking.Add(1)
		action := m.link.hooks[m.dir].call(func() Action { return (*hook)(m.dir, header, body) })
		m.p.hooking.Add(-1)
		switch action {
		case ActionDrop:
			return proxyDrop
		case ActionTear:
			return proxyTear
		case ActionCutBefore: // also after Cut in the hook
			return proxyCutBefore
		case ActionCutAfter:
			return proxyCutAfter
		}
	}
	if !m.p.armed[m.dir].Load() {
		return proxyPass
	}
	verdict := proxyPass
	m.p.arm(m.dir, func(r *proxyRules) { verdict = r.judge(PacketType(header >> 4)) })
	return verdict
}

// judge applies the rules to a packet of type t and removes the rule that it used.
func (r *proxyRules) judge(t PacketType) proxyVerdict {
	if r.inside[t] > 0 {
		r.inside[t]--
		return proxyTear
	}
	if len(r.lose) == 0 || r.lose[0].types&(1<<t) == 0 {
		return proxyPass
	}
	if r.lose[0].left--; r.lose[0].left > 0 {
		return proxySilence
	}
	r.lose = r.lose[1:]
	return proxyDrop
}

// CutAfter makes the proxy forward the given number of further bytes in direction dir, counted over
// all connections. The proxy then cuts the connection that carried the last byte, even inside a
// packet. The receiver gets exactly these bytes. If bytes is 0, the proxy cuts the connection when
// the next byte arrives. A later call replaces an earlier one.
func (p *Proxy) CutAfter(dir Direction, bytes int) {
	p.arm(dir, func(r *proxyRules) { r.after, r.cut = max(bytes, 0), true })
}

// ration returns how many of n bytes CutAfter allows, and whether the connection is cut after these
// bytes.
func (p *Proxy) ration(dir Direction, n int) (pass int, cut bool) {
	if n == 0 || !p.armed[dir].Load() {
		return n, false
	}
	pass = n
	p.arm(dir, func(r *proxyRules) {
		if !r.cut {
			return
		}
		pass = min(n, r.after)
		r.after -= pass
		cut = r.after == 0
		r.cut = !cut
	})
	return pass, cut
}

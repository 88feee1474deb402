package mqtttest

// proxyBodyLimit is how much of a packet's body an OnPacket hook is shown, and
// so how much of a packet is held back until the hook has spoken.
const proxyBodyLimit = 256 << 10

type proxyHook func(dir Direction, header byte, body []byte) Action

// proxyRules are the packet faults that wait for their packet, in one
// direction. They do not belong to a connection: the first one that sends such
// a packet gets the fault.
type proxyRules struct {
	inside [16]int // packets of each type still to tear
	lose   []proxyLoss
	after  int // bytes until a cut
	cut    bool
}

// proxyLoss is one call of LoseNext.
type proxyLoss struct {
	types uint16 // a bit for each packet type
	left  int
}

// CutInside lets only the first half of the next packet of type t through in
// direction dir and then cuts its connection: a torn packet. Calls add up.
func (p *Proxy) CutInside(dir Direction, t PacketType) {
	p.arm(dir, func(r *proxyRules) { r.inside[t&0x0F]++ })
}

// Lose swallows the next packet of one of the types (any, if none is given) in
// direction dir and cuts its connection right after: an acknowledgement lost
// the only way TCP can lose it. It is LoseNext with n = 1.
func (p *Proxy) Lose(dir Direction, types ...PacketType) { p.LoseNext(dir, 1, types...) }

// LoseNext swallows the next n packets of the given types (any, if none is
// given) in direction dir and cuts the connection right after the last of them.
// A TCP connection that loses something delivers nothing that comes behind it;
// so from the first loss on, nothing more passes in this direction of that
// connection. If it ends before n packets were lost, the remainder is lost from
// the next one. Calls add up, each waiting for the one before.
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

// OnPacket sets a hook that sees each packet before any other packet fault does
// and says what becomes of it; nil removes it. A packet that has already begun
// to pass is not shown. body is valid during the call only, and cut off at 256
// KiB. The hook runs on the goroutine that moves the bytes, one for each
// connection and direction: it may be called concurrently, what it waits for
// the link and Close wait for, and it may call any method of the Proxy. Cut in
// it ends its own connection before the packet, as ActionCutBefore does.
func (p *Proxy) OnPacket(hook func(dir Direction, header byte, body []byte) Action) {
	if hook == nil {
		p.hook.Store(nil)
		return
	}
	h := proxyHook(hook)
	p.hook.Store(&h)
}

// ClearFaults forgets every fault that has not happened yet and every
// condition: rules, hook, stall, delay, throttle, fragments, Refuse and
// Blackhole. Schedules go on.
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

// arm changes the rules of dir and lets the pumps know.
func (p *Proxy) arm(dir Direction, change func(*proxyRules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.rules[dir])
	p.armed[dir].Store(p.rules[dir].waiting())
}

func (r *proxyRules) waiting() bool {
	return r.inside != [16]int{} || len(r.lose) > 0 || r.cut
}

// watch is proxyJudge for the pump.
func (m *proxyPump) watch() (packets bool, body int) {
	if m.p.hook.Load() != nil {
		return true, proxyBodyLimit
	}
	return m.p.armed[m.dir].Load(), 0
}

// judge asks the hook first, then the rules.
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
		case ActionCutBefore: // also Cut in the hook
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

// judge applies the rules to a packet of type t, using them up.
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

// CutAfter lets n more bytes through in direction dir, whatever connection they
// belong to, and then cuts the connection of the last one, in the middle of a
// packet or not. With n = 0 it cuts when the next byte comes. A later call
// replaces an earlier one. The receiver gets exactly these bytes.
func (p *Proxy) CutAfter(dir Direction, bytes int) {
	p.arm(dir, func(r *proxyRules) { r.after, r.cut = max(bytes, 0), true })
}

// ration takes n bytes from what CutAfter allows: so many may pass, and whether
// the connection is cut behind them.
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

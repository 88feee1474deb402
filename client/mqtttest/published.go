package mqtttest

import "time"

// publishedOverhead is added to the size of each message, so that small messages are bounded too.
const publishedOverhead = 64

// published keeps the newest messages that clients have published.
type published struct {
	list  []*message
	bytes int
}

func (p *published) add(m *message, limit int) {
	p.list = append(p.list, m)
	p.bytes += m.size() + publishedOverhead
	for p.bytes > limit {
		p.bytes -= p.list[0].size() + publishedOverhead
		p.list[0] = nil
		p.list = p.list[1:]
	}
}

// refusing is a call of RefusePublishes.
type refusing struct {
	clientID string
	code     byte
	until    time.Time
}

// of returns the reason code for a PUBLISH of a client, or 0. r may be nil.
func (r *refusing) of(clientID string) byte {
	if r == nil || r.clientID != "" && r.clientID != clientID || !time.Now().Before(r.until) {
		return 0
	}
	return r.code
}

package interop

import (
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// relay stands between a client and a broker, and adds Topic Aliases to messages for the client,
// because no broker of the tests uses them.
type relay struct {
	listener net.Listener
	target   string
	maximum  uint16 // the client's Topic Alias Maximum
	wg       sync.WaitGroup

	mu    sync.Mutex
	own   int // aliases that the broker sent by itself
	bare  int // messages forwarded without their topic
	conns []net.Conn
}

func startRelay(t *testing.T, target string, maximum uint16) *relay {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, target: u.Host, maximum: maximum}
	r.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(t, client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.mu.Lock()
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (r *relay) URL() string { return "mqtt://" + r.listener.Addr().String() }

// counts returns the number of aliases that the broker sent by itself, and of messages without a
// topic.
func (r *relay) counts() (own, bare int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own, r.bare
}

func (r *relay) serve(t *testing.T, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		t.Error(err)
		return
	}
	r.mu.Lock()
	r.conns = append(r.conns, client, server)
	r.mu.Unlock()
	r.wg.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	if err := r.alias(client, server); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.Log("relay:", err) // the client closed first
	}
}

// alias forwards the server's packets. Topics use the aliases in rotation, so each alias represents
// a second topic if there are more topics than aliases.
func (r *relay) alias(client io.Writer, server io.Reader) error {
	topics, last := map[string]uint16{}, uint16(0)
	topicOf := make([]string, r.maximum+1)
	for frames := wire.NewReader(server, 0); ; {
		f, err := frames.Next()
		if err != nil {
			return err
		}
		out := f.Raw
		if f.Type() == wire.PUBLISH {
			v, err := wire.ParsePublish(f)
			if err != nil {
				return err
			}
			r.mu.Lock()
			if v.TopicAlias != 0 {
				r.own++
			} else {
				p := v.Decode(string(v.Topic))
				if p.TopicAlias = topics[p.Topic]; p.TopicAlias != 0 {
					p.Topic = ""
					r.bare++
				} else {
					last = last%r.maximum + 1
					delete(topics, topicOf[last])
					topicOf[last], topics[p.Topic] = p.Topic, last
					p.TopicAlias = last
				}
				out = wire.AppendPublish(nil, &p)
			}
			r.mu.Unlock()
		}
		if _, err := client.Write(out); err != nil {
			return err
		}
	}
}

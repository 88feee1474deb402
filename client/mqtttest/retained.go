package mqtttest

import "container/heap"

// retainedSet contains the retained messages, and a heap of the messages that expire.
type retainedSet struct {
	byTopic  map[string]*retainedMessage
	bytes    int
	expiring retainedHeap // those that expire
}

type retainedMessage struct {
	*message
	index int // in the heap; -1 if the message never expires
}

func (s *retainedSet) get(topic string) *message {
	if r := s.byTopic[topic]; r != nil {
		return r.message
	}
	return nil
}

func (s *retainedSet) set(m *message) {
	s.remove(m.topic)
	r := &retainedMessage{m, -1}
	s.byTopic[m.topic] = r
	s.bytes += m.size()
	if !m.expires.IsZero() {
		heap.Push(&s.expiring, r)
	}
}

func (s *retainedSet) remove(topic string) {
	r := s.byTopic[topic]
	if r == nil {
		return
	}
	delete(s.byTopic, topic)
	s.bytes -= r.size()
	if r.index >= 0 {
		heap.Remove(&s.expiring, r.index)
	}
}

// first returns the message that expires first, or nil.
func (s *retainedSet) first() *message {
	if len(s.expiring) == 0 {
		return nil
	}
	return s.expiring[0].message
}

type retainedHeap []*retainedMessage

func (h retainedHeap) Len() int           { return len(h) }
func (h retainedHeap) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h retainedHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *retainedHeap) Push(x any) {
	r := x.(*retainedMessage)
	r.index = len(*h)
	*h = append(*h, r)
}

func (h *retainedHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	r.index = -1
	return r
}

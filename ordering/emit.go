package ordering

// runAll emits the output of all streams, beginning with the last stream. After a panic in emit for
// one stream, it still emits the other streams.
func (r *Resequencer[T]) runAll(streams []*stream[T]) {
	last := len(streams) - 1
	if last > 0 {
		defer r.runAll(streams[:last])
	}
	r.run(streams[last])
}

// run emits the output of a stream, unless another call is emitting it.
func (r *Resequencer[T]) run(st *stream[T]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st.emitting || st.waiting() == 0 {
		return
	}
	st.emitting = true
	defer func() { // even if emit panics
		st.emitting = false
		r.settle(st)
		r.shrink()
	}()
	for st.waiting() > 0 {
		r.emitOne(st)
	}
}

// emitOne emits one event. It releases the lock during the call.
func (r *Resequencer[T]) emitOne(st *stream[T]) {
	e := st.take()
	r.count(st)
	r.mu.Unlock()
	defer r.mu.Lock()
	switch {
	case e.emit != nil:
		e.emit(e.v, e.late)
	case e.gap != nil:
		r.opts.OnGap(*e.gap)
	default:
		r.opts.OnEpoch(st.key, e.epochs[0], e.epochs[1])
	}
}

// count updates Stats.Waiting.
func (r *Resequencer[T]) count(st *stream[T]) {
	r.stats.Waiting += st.waiting() - st.counted
	st.counted = st.waiting()
}

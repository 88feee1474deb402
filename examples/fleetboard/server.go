package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"time"
)

//go:embed assets
var assets embed.FS

// policy allows the page to load only files of this server, and forbids inline scripts.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// server serves the page, the event stream and the requests of the buttons.
type server struct {
	http   *http.Server
	failed chan error // the error that ended the server
	board  *board
}

func startServer(l net.Listener, s *simulation) *server {
	local := false
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		local = a.IP.IsLoopback()
	}
	w := &server{failed: make(chan error, 1), board: s.backend.board}
	w.http = &http.Server{Handler: handler(s, local), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	w.http.RegisterOnShutdown(w.board.endStreams)
	go func() {
		if err := w.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			w.failed <- err
		}
	}()
	return w
}

func (w *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := w.http.Shutdown(ctx); err != nil {
		return w.http.Close() // a browser does not read
	}
	return nil
}

// handler returns the handler of all requests. If local, it accepts only the host names of this
// machine, which prevents DNS rebinding.
func handler(s *simulation, local bool) http.Handler {
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the embedded folder always exists
	}
	b := s.backend.board
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.Handle("GET /events", b)
	mux.HandleFunc("GET /api/device", func(w http.ResponseWriter, r *http.Request) {
		d, ok := b.details(r.FormValue("name"))
		if !ok {
			http.Error(w, "no such device", http.StatusNotFound)
			return
		}
		answer(w, d)
	})
	mux.HandleFunc("GET /api/latest", func(w http.ResponseWriter, _ *http.Request) { answer(w, b.latest()) })
	mux.HandleFunc("POST /api/device", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.faults.byHand(r.URL.Query().Get("name"), r.URL.Query().Get("fault")))
	})
	mux.HandleFunc("POST /api/backend/cut", func(w http.ResponseWriter, _ *http.Request) {
		s.faults.cutBackend(awayFor)
		done(w, nil)
	})
	mux.HandleFunc("POST /api/broker/restart", func(w http.ResponseWriter, _ *http.Request) { done(w, s.faults.restartBroker()) })
	mux.HandleFunc("POST /api/faults", func(w http.ResponseWriter, r *http.Request) {
		s.faults.random.Store(r.URL.Query().Get("random") == "on")
		done(w, nil)
	})
	guarded := http.NewCrossOriginProtection().Handler(mux) // pages of other origins cannot send POST requests
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		if local && !ofThisMachine(r.Host) {
			http.Error(w, "the board accepts only requests to 127.0.0.1 and localhost", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 1024)
		guarded.ServeHTTP(w, r)
	})
}

func ofThisMachine(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error means that the browser has disconnected
}

func done(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, errNoDevice):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, errBusy), errors.Is(err, errNotOwn):
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

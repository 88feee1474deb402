package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// serverKey is the key of the server in the context of ConnectionConfig.Credentials.
type serverKey struct{}

// ServerOf returns the server of an attempt to connect. ctx is the context with which the client
// calls ConnectionConfig.Credentials, or is derived from it. For other contexts, ServerOf returns
// nil. After a redirect, the server may be one that is not in Config.Servers.
func ServerOf(ctx context.Context) *url.URL {
	server, ok := ctx.Value(serverKey{}).(url.URL)
	if !ok {
		return nil
	}
	return &server
}

// credentials returns a function that returns the credentials for an attempt to connect.
func credentials(conf *ConnectionConfig, guard *callback.Guard) func(context.Context, *url.URL) (username string, password []byte, err error) {
	if conf.Credentials == nil {
		return func(context.Context, *url.URL) (string, []byte, error) { return conf.Username, conf.Password, nil }
	}
	turn := make(chan struct{}, 1)
	return func(ctx context.Context, server *url.URL) (string, []byte, error) {
		got, err := ask(context.WithValue(ctx, serverKey{}, *server), conf.Credentials, guard, turn)
		switch {
		case err != nil:
		case len(got.Password) > wire.MaxString:
			err = &FieldError{Field: "Password", Problem: "is longer than 65,535 bytes; MQTT cannot carry it"}
		default:
			err = fieldError(wire.CheckString("Username", got.Username))
		}
		if err != nil {
			return "", nil, &CredentialsError{Err: err}
		}
		return got.Username, got.Password, nil
	}
}

// webSocketRequests returns the function that link.Dialer calls for each WebSocket, or nil.
func webSocketRequests(change func(context.Context, *WebSocketRequest) error, guard *callback.Guard) func(context.Context, *url.URL) (*url.URL, http.Header, error) {
	if change == nil {
		return nil
	}
	turn := make(chan struct{}, 1)
	return func(ctx context.Context, server *url.URL) (*url.URL, http.Header, error) {
		r, err := ask(ctx, func(ctx context.Context) (*WebSocketRequest, error) {
			r := &WebSocketRequest{URL: server, Header: http.Header{}}
			return r, change(ctx, r)
		}, guard, turn)
		if err != nil {
			return nil, nil, err
		}
		return r.URL, r.Header, nil
	}
}

// ask calls get. turn prevents overlapping calls. If a call ignores the end of its context, ask
// returns without it, and the next attempt waits for that call.
func ask[T any](ctx context.Context, get func(context.Context) (T, error), guard *callback.Guard, turn chan struct{}) (none T, _ error) {
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("the previous call has not returned: %w", context.Cause(ctx))
	}
	var got T
	err := errors.New("the function ended its goroutine")
	answered := make(chan struct{})
	go func() {
		defer guard.Enter()()
		defer func() {
			<-turn
			close(answered)
		}()
		if p := callback.Try(func() { got, err = get(ctx) }); p != nil {
			err = fmt.Errorf("the function panicked: %v", p.Value)
		}
	}()
	select {
	case <-answered:
		return got, err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

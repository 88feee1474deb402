package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// credentials returns the source of credentials for each attempt to connect.
func credentials(conf *ConnectionConfig, guard *callback.Guard) func(context.Context) (username string, password []byte, err error) {
	if conf.Credentials == nil {
		return func(context.Context) (string, []byte, error) { return conf.Username, conf.Password, nil }
	}
	source := credentialSource{get: conf.Credentials, guard: guard, turn: make(chan struct{}, 1)}
	return func(ctx context.Context) (string, []byte, error) {
		got, err := source.ask(ctx)
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

// credentialSource calls ConnectionConfig.Credentials, once at a time. A call that
// ignores its context is left behind, and the next attempt waits for it.
type credentialSource struct {
	get   func(context.Context) (Credentials, error)
	guard *callback.Guard
	turn  chan struct{} // held during a call
}

func (s *credentialSource) ask(ctx context.Context) (Credentials, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return Credentials{}, fmt.Errorf("the call before has not returned: %w", context.Cause(ctx))
	}
	var got Credentials
	err := errors.New("it ended its goroutine")
	answered := make(chan struct{})
	go func() {
		defer s.guard.Enter()()
		defer func() {
			<-s.turn
			close(answered)
		}()
		if p := callback.Try(func() { got, err = s.get(ctx) }); p != nil {
			err = fmt.Errorf("it panicked: %v", p.Value)
		}
	}()
	select {
	case <-answered:
		return got, err
	case <-ctx.Done():
		return Credentials{}, context.Cause(ctx)
	}
}

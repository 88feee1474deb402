package client_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// safeToRetry lists every exported error of these packages, with variants, by package and name.
var safeToRetry = map[string][]struct {
	err  error
	want bool
}{
	"client.ErrAbort":                {{client.ErrAbort, false}},
	"client.ErrAckTimeout":           {{client.ErrAckTimeout, false}},
	"client.ErrCancelled":            {{client.ErrCancelled, true}},
	"client.ErrClosed":               {{client.ErrClosed, true}},
	"client.ErrNoKey":                {{client.ErrNoKey, false}},
	"client.ErrConflated":            {{client.ErrConflated, true}},
	"client.ErrDraining":             {{client.ErrDraining, true}},
	"client.ErrKeepAlive":            {{client.ErrKeepAlive, false}},
	"client.ErrNilClient":            {{client.ErrNilClient, true}},
	"client.ErrNoDeadLetters":        {{client.ErrNoDeadLetters, true}},
	"client.ErrNoReceipts":           {{client.ErrNoReceipts, true}},
	"client.ErrNoSetAside":           {{client.ErrNoSetAside, true}},
	"client.ErrNotConnected":         {{client.ErrNotConnected, true}},
	"client.ErrSessionAdopted":       {{client.ErrSessionAdopted, false}},
	"client.ErrNotSetAside":          {{client.ErrNotSetAside, true}},
	"client.ErrSessionLost":          {{client.ErrSessionLost, false}},
	"client.ErrSessionStuck":         {{client.ErrSessionStuck, false}},
	"client.ErrSetAsideBusy":         {{client.ErrSetAsideBusy, true}},
	"client.ErrSetAsideFull":         {{client.ErrSetAsideFull, true}},
	"client.ErrStarted":              {{client.ErrStarted, true}},
	"client.ErrTooManyFilters":       {{client.ErrTooManyFilters, true}},
	"client.ErrUnknownSession":       {{client.ErrUnknownSession, false}},
	"client.AuthError":               {{&client.AuthError{Err: &client.FieldError{}}, false}},
	"client.CloseTimeoutError":       {{&client.CloseTimeoutError{}, true}},
	"client.ConfigError":             {{&client.ConfigError{}, true}},
	"client.ConnectionError":         {{&client.ConnectionError{Code: 0x97, Cause: client.ErrClosed}, false}},
	"client.CredentialsError":        {{&client.CredentialsError{Err: context.DeadlineExceeded}, true}},
	"client.DamagedError":            {{&client.DamagedError{}, false}},
	"client.DeferredError":           {{&client.DeferredError{}, false}},
	"client.DrainError":              {{&client.DrainError{Cause: client.ErrClosed}, false}},
	"client.DroppedError":            {{&client.DroppedError{}, true}, {&client.DroppedError{Cause: client.ErrConflated}, true}},
	"client.ExpiredError":            {{&client.ExpiredError{}, false}},
	"client.FieldError":              {{&client.FieldError{}, true}},
	"client.InboundFullError":        {{&client.InboundFullError{}, false}},
	"client.OutcomeUnknownError":     {{&client.OutcomeUnknownError{Delivery: &client.Delivery{}, Err: context.DeadlineExceeded}, false}},
	"client.PanicError":              {{&client.PanicError{}, false}},
	"client.PermanentError":          {{&client.PermanentError{Err: context.DeadlineExceeded}, false}},
	"client.PoisonError":             {{&client.PoisonError{}, false}},
	"client.ProtocolError":           {{&client.ProtocolError{}, false}},
	"client.ProxyError":              {{&client.ProxyError{Err: context.DeadlineExceeded}, true}},
	"client.Refusal":                 {{client.Refuse(0x97, ""), false}},
	"client.RefusedError":            {{&client.RefusedError{Code: 0x97}, true}, {&client.RefusedError{Code: 0x91}, false}, {&client.RefusedError{Code: 0x92}, false}},
	"client.RetainedLimitError":      {{&client.RetainedLimitError{}, true}},
	"client.SessionError":            {{&client.SessionError{}, false}},
	"client.StatusDeferredError":     {{&client.StatusDeferredError{Connections: 5}, true}},
	"client.StatusSubscriptionError": {{&client.StatusSubscriptionError{Err: context.Canceled}, false}, {&client.StatusSubscriptionError{Err: &client.RefusedError{Code: 0x87}}, true}},
	"client.SubscribeError":          {{&client.SubscribeError{}, true}},
	"client.TLSFileError":            {{&client.TLSFileError{Err: fs.ErrNotExist}, true}},
	"client.WebSocketError":          {{&client.WebSocketError{Status: 403}, true}, {&client.WebSocketError{Err: context.DeadlineExceeded}, true}},

	"persistence.ErrClientID":          {{persistence.ErrClientID, true}},
	"persistence.ErrClosed":            {{persistence.ErrClosed, false}},
	"persistence.ErrFailed":            {{persistence.ErrFailed, false}},
	"persistence.ErrDeferral":          {{persistence.ErrDeferral, true}},
	"persistence.ErrFull":              {{persistence.ErrFull, true}},
	"persistence.ErrKey":               {{persistence.ErrKey, true}},
	"persistence.ErrLocked":            {{persistence.ErrLocked, true}},
	"persistence.ErrPacketID":          {{persistence.ErrPacketID, true}},
	"persistence.ErrPacketTooLarge":    {{persistence.ErrPacketTooLarge, true}},
	"persistence.ErrPriority":          {{persistence.ErrPriority, true}},
	"persistence.ErrSessionLostPolicy": {{persistence.ErrSessionLostPolicy, true}},
	"persistence.ErrStreamName":        {{persistence.ErrStreamName, true}},
	"persistence.ErrUnknownResult":     {{persistence.ErrUnknownResult, true}},
	"persistence.ErrUnknownSequence":   {{persistence.ErrUnknownSequence, true}},
	"persistence.ErrUnknownStream":     {{persistence.ErrUnknownStream, true}},
	"persistence.DegradedError":        {{&persistence.DegradedError{Err: client.ErrClosed}, true}},
	"persistence.ErrDegraded":          {{persistence.ErrDegraded, true}},
	"persistence.FailedError":          {{&persistence.FailedError{Err: client.ErrClosed}, false}},
	"persistence.FolderError":          {{&persistence.FolderError{Err: fs.ErrPermission}, true}},
	"persistence.FullError":            {{&persistence.FullError{}, true}},
	"persistence.StalledError":         {{&persistence.StalledError{}, true}},
	"persistence.LockedError":          {{&persistence.LockedError{}, true}},
	"persistence.OptionError":          {{&persistence.OptionError{}, true}},
	"persistence.PacketTooLargeError":  {{&persistence.PacketTooLargeError{}, true}},
	"persistence.ReadError":            {{&persistence.ReadError{Err: fs.ErrPermission}, true}},
	"persistence.VersionError":         {{&persistence.VersionError{}, true}},

	"dedupe.ErrClaimLost":       {{dedupe.ErrClaimLost, false}},
	"dedupe.ErrClosed":          {{dedupe.ErrClosed, true}},
	"dedupe.ErrEmptyKey":        {{dedupe.ErrEmptyKey, true}},
	"dedupe.ErrFormat":          {{dedupe.ErrFormat, true}},
	"dedupe.ErrKeyTooLong":      {{dedupe.ErrKeyTooLong, true}},
	"dedupe.ErrTooManyInFlight": {{dedupe.ErrTooManyInFlight, true}},
	"dedupe.ClaimLostError":     {{&dedupe.ClaimLostError{}, false}},
	"dedupe.CommitError":        {{&dedupe.CommitError{Err: fs.ErrPermission}, false}},
	"dedupe.InFlightError":      {{&dedupe.InFlightError{}, true}},
	"dedupe.LockedError":        {{&dedupe.LockedError{}, true}},

	"reliability.OpenError":    {{&reliability.OpenError{}, true}},
	"reliability.TimeoutError": {{&reliability.TimeoutError{}, false}},

	"link.ErrAckTimeout":        {{link.ErrAckTimeout, false}},
	"link.ErrKeepAlive":         {{link.ErrKeepAlive, false}},
	"link.ErrSessionAdopted":    {{link.ErrSessionAdopted, false}},
	"link.ErrUnknownSession":    {{link.ErrUnknownSession, false}},
	"link.AuthError":            {{&link.AuthError{Err: &wire.FieldError{}}, false}},
	"link.CloseError":           {{&link.CloseError{Err: &wire.FieldError{}}, false}},
	"link.ConnackError":         {{&link.ConnackError{Reason: 0x97}, false}},
	"link.DisconnectError":      {{&link.DisconnectError{Reason: 0x97}, false}},
	"link.PacketTooLargeError":  {{&link.PacketTooLargeError{}, true}},
	"link.ProxyError":           {{&link.ProxyError{Err: context.DeadlineExceeded}, true}},
	"link.SessionMismatchError": {{&link.SessionMismatchError{}, false}},
	"link.TLSFileError":         {{&link.TLSFileError{Err: fs.ErrNotExist}, true}},
	"link.WebSocketError":       {{&link.WebSocketError{Err: context.DeadlineExceeded}, true}},
}

func TestSafeToRetry(t *testing.T) {
	for name, variants := range safeToRetry {
		for _, v := range variants {
			for _, err := range []error{v.err, fmt.Errorf("wrapped: %w", v.err), errors.Join(errors.New("joined"), v.err)} {
				if got := reliability.SafeToRetry(err); got != v.want {
					t.Errorf("%s: %T %v: safe %v, want %v", name, err, err, got, v.want)
				}
			}
		}
	}
	for _, err := range []error{nil, errors.New("unknown"), context.Canceled, context.DeadlineExceeded, os.ErrPermission} {
		if reliability.SafeToRetry(err) {
			t.Errorf("%v is safe", err)
		}
	}
}

// Every new error needs a line in the table.
func TestSafeToRetry_CoversEveryError(t *testing.T) {
	found := map[string]bool{}
	for _, folder := range []string{".", "../persistence", "../dedupe", "../reliability", "../internal/link"} {
		for _, name := range exportedErrors(t, folder) {
			found[name] = true
			if _, listed := safeToRetry[name]; !listed {
				t.Errorf("%s is missing in the table", name)
			}
		}
	}
	for name := range safeToRetry {
		if !found[name] {
			t.Errorf("%s does not exist; remove it from the table", name)
		}
	}
}

// exportedErrors returns the variables Err… and the types with a method Error that a folder
// declares.
func exportedErrors(t *testing.T, folder string) (names []string) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no files: %v", folder, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			for _, name := range errorsOf(d) {
				names = append(names, f.Name.Name+"."+name)
			}
		}
	}
	return names
}

func errorsOf(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if v, ok := s.(*ast.ValueSpec); ok && d.Tok == token.VAR && strings.HasPrefix(v.Names[0].Name, "Err") {
				names = append(names, v.Names[0].Name)
			}
		}
	case *ast.FuncDecl:
		if d.Recv == nil || d.Name.Name != "Error" {
			return nil
		}
		of := d.Recv.List[0].Type
		if p, ok := of.(*ast.StarExpr); ok {
			of = p.X
		}
		if name := of.(*ast.Ident).Name; ast.IsExported(name) {
			names = append(names, name)
		}
	}
	return names
}

// After Close, a pending message may still be delivered by the next client. A message that Publish
// rejects is not in the store.
func TestSafeToRetry_AfterClose(t *testing.T) {
	c, err := client.New(client.Config{Servers: []string{"mqtt://127.0.0.1:1"}, ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if o := d.Outcome(); !errors.Is(o.Err, client.ErrClosed) || reliability.SafeToRetry(o.Err) {
		t.Errorf("outcome %v, safe %v", o, reliability.SafeToRetry(o.Err))
	}
	_, err = c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce})
	if !errors.Is(err, client.ErrClosed) || !reliability.SafeToRetry(err) {
		t.Errorf("Publish after Close: %v, safe %v", err, reliability.SafeToRetry(err))
	}
}

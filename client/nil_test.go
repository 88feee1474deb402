package client_test

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
)

// A program that ignores the error of New must not crash in a method of the nil
// Client: each method that returns an error returns ErrNilClient.
func TestNilClient_ReturnsErrors(t *testing.T) {
	var c *client.Client
	v := reflect.ValueOf(c)
	errorType := reflect.TypeFor[error]()
	for i := range v.NumMethod() {
		name, method := v.Type().Method(i).Name, v.Method(i)
		var args []reflect.Value
		for j := range method.Type().NumIn() {
			in := method.Type().In(j)
			switch {
			case method.Type().IsVariadic() && j == method.Type().NumIn()-1:
			case in == reflect.TypeFor[context.Context]():
				args = append(args, reflect.ValueOf(t.Context()))
			case in == reflect.TypeFor[[]byte]():
				args = append(args, reflect.ValueOf([]byte("x")))
			default:
				args = append(args, reflect.Zero(in))
			}
		}
		for _, out := range method.Call(args) {
			if !out.Type().Implements(errorType) {
				continue
			}
			if err, _ := out.Interface().(error); !errors.Is(err, client.ErrNilClient) {
				t.Errorf("%s of a nil Client returns %v", name, err)
			}
		}
	}
	for _, err := range c.DeadLetters() {
		if !errors.Is(err, client.ErrNilClient) {
			t.Errorf("DeadLetters of a nil Client yields %v", err)
		}
	}
	<-c.Done()
}

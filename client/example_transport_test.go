package client_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/reliability"
)

// exampleListener passes each connection to serve, until it is closed.
func exampleListener(serve func(net.Conn)) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l
}

// exampleProxy is an HTTP proxy with a password. It connects every request to the broker.
func exampleProxy(b *mqtttest.Broker, user, password string) net.Listener {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	return exampleListener(func(c net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil || request.Header.Get("Proxy-Authorization") != basic {
			fmt.Fprint(c, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
			_ = c.Close()
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		b.Serve(c)
	})
}

// firstFailure returns an OnEvent that sends the error of the first failed attempt to a channel.
func firstFailure() (onEvent func(client.Event), failed chan error) {
	failed = make(chan error, 1)
	return func(e client.Event) {
		if e, ok := e.(client.ConnectFailed); ok {
			select {
			case failed <- e.Err:
			default:
			}
		}
	}, failed
}

// A proxy is configured by its URL, or as ProxyFromEnvironment. It resolves the server's name. A
// ProxyError contains its answer, and the client continues to try.
func ExampleConfig_proxy() {
	b := exampleBroker()
	defer b.Close()
	proxy := exampleProxy(b, "device", "secret")
	defer proxy.Close()
	ctx := context.Background()

	cfg := client.Config{Servers: []string{"mqtt://broker.example:1883"}, ClientID: "pump-7"}
	onEvent, failed := firstFailure()
	cfg.OnEvent = onEvent
	cfg.Connection.Proxy = "http://device:guess@" + proxy.Addr().String()
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	var refused *client.ProxyError
	if errors.As(<-failed, &refused) {
		fmt.Println("the proxy:", refused.Status, refused.Reason)
	}
	_ = c.Close()

	cfg.Connection.Proxy = "http://device:secret@" + proxy.Addr().String()
	if c, err = client.New(cfg); err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	fmt.Println("connected:", c.AwaitConnection(ctx) == nil)
	// Output:
	// the proxy: 407 Proxy Authentication Required
	// connected: true
}

// The client reads the files on each attempt, so it uses a new file without a restart. Here the new
// file is the authority of the server's certificate.
func ExampleTLSFiles() {
	b := exampleBroker()
	defer b.Close()
	authority := httptest.NewTLSServer(nil) // issues the server's certificate
	defer authority.Close()
	server := exampleListener(func(c net.Conn) {
		b.Serve(tls.Server(c, &tls.Config{Certificates: authority.TLS.Certificates}))
	})
	defer server.Close()
	dir, err := os.MkdirTemp("", "mooring")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	onEvent, failed := firstFailure()
	files := &client.TLSFiles{CA: filepath.Join(dir, "ca.pem")}
	c, err := client.New(client.Config{
		Servers:  []string{"mqtts://" + server.Addr().String()},
		ClientID: "pump-7",
		Connection: client.ConnectionConfig{
			TLSFiles: files,
			Backoff:  reliability.Backoff{Min: 10 * time.Millisecond, Max: 20 * time.Millisecond},
		},
		OnEvent: onEvent,
	})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	var unusable *client.TLSFileError
	if errors.As(<-failed, &unusable) {
		fmt.Println(filepath.Base(unusable.File), "is not there:", errors.Is(unusable, os.ErrNotExist))
	}

	// Write a complete file under another name and rename it, so that the client never reads a part
	// of it.
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate().Raw})
	if err := os.WriteFile(files.CA+".new", certificate, 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(files.CA+".new", files.CA); err != nil {
		panic(err)
	}
	fmt.Println("connected:", c.AwaitConnection(ctx) == nil)
	// Output:
	// ca.pem is not there: true
	// connected: true
}

// Credentials returns a new token for each attempt. If the server refuses one, the client tries the
// next. With a fixed Password, the client would stop.
func ExampleCredentials() {
	b, err := mqtttest.New(mqtttest.Options{NoTCP: true, Authenticate: func(_ context.Context, _, user string, password []byte) byte {
		if user == "pump-7" && string(password) == "token 2" {
			return 0
		}
		return 0x86 // Bad User Name or Password
	}})
	if err != nil {
		panic(err)
	}
	defer b.Close()
	ctx := context.Background()

	cfg := exampleConfig(b, "pump-7")
	onEvent, failed := firstFailure()
	cfg.OnEvent = onEvent
	var tokens atomic.Int64
	cfg.Connection.Credentials = func(ctx context.Context) (client.Credentials, error) {
		// An application queries its secret store here, until ctx ends.
		token := fmt.Sprint("token ", tokens.Add(1))
		return client.Credentials{Username: "pump-7", Password: []byte(token)}, ctx.Err()
	}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	var refused *client.ConnectionError
	if errors.As(<-failed, &refused) {
		fmt.Println("token 1:", reliability.ReasonName(refused.Code))
	}
	fmt.Println("token 2:", c.AwaitConnection(ctx) == nil)
	// Output:
	// token 1: Bad User Name or Password
	// token 2: true
}

// The URL is signed for each attempt, because signatures expire. An application that uses AWS IoT
// Core calls the signer of the AWS SDK here (SigV4, PresignHTTP).
func ExampleWebSocketRequest() {
	b, err := mqtttest.New(mqtttest.Options{WebSocket: true})
	if err != nil {
		panic(err)
	}
	defer b.Close()
	cfg := client.Config{Servers: []string{b.WebSocketURL()}, ClientID: "pump-7", Logger: slog.New(slog.DiscardHandler)}
	cfg.Connection.WebSocketRequest = func(_ context.Context, r *client.WebSocketRequest) error {
		query := r.URL.Query()
		query.Set("expires", time.Now().Add(time.Minute).Format(time.RFC3339))
		mac := hmac.New(sha256.New, []byte("secret key"))
		_, _ = mac.Write([]byte(query.Encode()))
		query.Set("signature", hex.EncodeToString(mac.Sum(nil)))
		r.URL.RawQuery = query.Encode()
		r.Header.Set("Origin", "https://app.example.com")
		return nil
	}
	c, err := client.New(cfg)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	ctx := context.Background()
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	fmt.Println("connected:", c.AwaitConnection(ctx) == nil)
	// Output: connected: true
}

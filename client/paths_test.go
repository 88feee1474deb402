package client_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/testcert"
	"github.com/mooring-mqtt/mooring/persistence"
)

// TestPaths_SurviveChdir gives relative paths and changes the working directory after New: everything goes
// to where the paths led then, also files that are made later.
func TestPaths_SurviveChdir(t *testing.T) {
	before, after := t.TempDir(), t.TempDir()
	t.Chdir(before)
	keys, err := dedupe.OpenFile("keys", dedupe.Options{})
	must(t, err)
	b := mqtttest.Start(t)
	a := make(attempts, 10)
	cfg := overSockets(b.URL(), a)
	cfg.ClientID, cfg.Dir = "c", "store"
	cfg.Store.Options.Files = persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}
	cfg.Receiving.Dedupe = keys
	c := mustNew(t, cfg)
	t.Chdir(after)
	_, err = c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce, Payload: make([]byte, 3000)})
	must(t, err)
	start(t, c)
	a.connects(t)
	_, err = c.Subscribe(t.Context(), "in", client.AtLeastOnce, client.HandlerFunc(func(context.Context, *client.Message) error { return client.Permanent(errors.New("no")) }))
	must(t, err)
	for i := range 20 { // in several segments
		_, err = c.Publish(t.Context(), client.Message{Topic: "in", QoS: client.AtLeastOnce, Payload: fmt.Append(make([]byte, 1000), i)})
		must(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, c.Drain(ctx))
	must(t, c.Close())
	must(t, keys.Close())
	if left, err := os.ReadDir(after); err != nil || len(left) > 0 {
		t.Errorf("the new working directory has %v, %v", left, err)
	}
	for _, name := range []string{"store", filepath.Join("store", "received"), "keys"} {
		if _, err := os.Stat(filepath.Join(before, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestPaths_LogSurvivesChdir opens a log by a relative path.
func TestPaths_LogSurvivesChdir(t *testing.T) {
	before, after := t.TempDir(), t.TempDir()
	t.Chdir(before)
	o := persistence.Options{Files: persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}}
	l, err := persistence.Open("log", o)
	must(t, err)
	t.Chdir(after)
	for range 20 {
		_, err := persistence.Append(l, &persistence.Message{Packet: make([]byte, 1000)})
		must(t, err)
	}
	must(t, l.Close())
	if left, err := os.ReadDir(after); err != nil || len(left) > 0 {
		t.Errorf("the new working directory has %v, %v", left, err)
	}
	if l, err = persistence.Open(filepath.Join(before, "log"), o); err != nil || l.Stats().Pending != 20 {
		t.Errorf("%v, %v; want 20 messages", l.Stats().Pending, err)
	}
	must(t, l.Close())
}

// TestPaths_TLSFilesSurviveChdir connects with files that New got by relative paths.
func TestPaths_TLSFilesSurviveChdir(t *testing.T) {
	t.Chdir(t.TempDir())
	ca := testcert.NewAuthority(t, "ca")
	must(t, os.WriteFile("ca.pem", ca.PEM(), 0o600))
	b := mqtttest.Start(t)
	l := listenOn(t, "tcp", "127.0.0.1:0")
	address := l.Addr().String()
	served(t, tlsListener(t, ca, "broker.test")(l), func(c net.Conn) {
		if out, err := net.Dial("tcp", b.Addr()); err == nil {
			pump(c, out)
		}
	})
	files, a := &client.TLSFiles{CA: "ca.pem", ServerName: "broker.test"}, make(attempts, 10)
	cfg := overSockets("mqtts://"+address, a)
	cfg.Connection.TLSFiles = files
	c := mustNew(t, cfg)
	t.Chdir(t.TempDir())
	start(t, c)
	a.connects(t)
	if files.CA != "ca.pem" {
		t.Error("New has changed the caller's TLSFiles")
	}
}

// TestNew_ChecksTLSFiles refuses what is certainly wrong, before it makes the store, and nothing that time may
// mend.
func TestNew_ChecksTLSFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string, data []byte) string {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		return filepath.Join(dir, name)
	}
	pair := testcert.NewAuthority(t, "ca").Issue(t, "client", time.Hour)
	cert, key := path("cert.pem", pair.Cert), path("key.pem", pair.Key)
	other := path("other.pem", testcert.NewAuthority(t, "ca").Issue(t, "client", time.Hour).Key)
	half, missing := path("half.pem", pair.Key[:100]), filepath.Join(dir, "missing.pem")
	sealed := path("my sealed.pem", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}))
	for name, tt := range map[string]struct {
		files  client.TLSFiles
		format string
	}{
		"good":       {client.TLSFiles{Cert: cert, Key: key}, ""},
		"missing":    {client.TLSFiles{CA: missing, Cert: cert, Key: key}, ""},
		"half":       {client.TLSFiles{Cert: cert, Key: half}, ""},
		"another":    {client.TLSFiles{Cert: cert, Key: other}, ""},
		"swapped":    {client.TLSFiles{Cert: key, Key: cert}, "a private key and no certificate"},
		"passphrase": {client.TLSFiles{Cert: cert, Key: sealed}, "a private key with a passphrase"},
		"folder":     {client.TLSFiles{CA: dir}, "a folder, not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "store")
			c, err := client.New(client.Config{Servers: []string{"mqtts://h"}, ClientID: "c", Dir: store, Connection: client.ConnectionConfig{TLSFiles: &tt.files}})
			if tt.format == "" {
				must(t, err)
				must(t, c.Close())
				return
			}
			var bad *client.ConfigError
			var file *client.TLSFileError
			if !errors.As(err, &bad) || bad.Field != "Connection.TLSFiles" || !errors.As(err, &file) || file.Format != tt.format {
				t.Fatalf("got %v, want the format %q", err, tt.format)
			}
			if name == "passphrase" && !strings.Contains(err.Error(), "openssl pkey -in '"+sealed+"' -out key.pem") {
				t.Errorf("the command is not in %v", err)
			}
			if _, err := os.Stat(store); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the store was made: %v", err)
			}
		})
	}
}

package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/testcert"
)

// rename writes a file as it should be written.
func rename(t *testing.T, name string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(name+".new", b, 0o600))
	must(t, os.Rename(name+".new", name))
}

// A client whose certificates expire, are wrong or half written connects by
// itself once somebody has put the right ones there, and resumes from then on.
func TestTLSFiles_Renewed(t *testing.T) {
	t.Parallel()
	b := mqtttest.Start(t)
	trusted, untrusted := testcert.NewAuthority(t, "trusted"), testcert.NewAuthority(t, "untrusted")
	var server atomic.Pointer[tls.Config]
	present := func(end time.Duration) {
		conf := &tls.Config{Certificates: []tls.Certificate{trusted.Issue(t, "broker.test", end).TLS(t)},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted.Pool()}
		conf.SetSessionTicketKeys([][32]byte{{1}}) // which clones share
		server.Store(conf)
	}
	present(-time.Minute)
	var resumed, shown atomic.Int64
	refused := make(attempts, 1000)
	addr := tlsFront(t, b.Addr(), func() *tls.Config {
		conf := server.Load().Clone()
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			if shown.Add(1); s.DidResume {
				resumed.Add(1)
			}
			return nil
		}
		return conf
	}, refused)
	dir := t.TempDir()
	files := &client.TLSFiles{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ServerName: "broker.test"}
	a := make(attempts, 1000)
	cfg := overSockets("mqtts://"+addr, a)
	cfg.Connection.TLSFiles = files
	c := mustStart(t, cfg)
	d := publish(t, c, "t", "x", client.AtLeastOnce)

	if err := fails[*client.TLSFileError](t, a); err.File != files.CA || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no files: %v", err)
	}
	expired := trusted.Issue(t, "client", -time.Minute)
	rename(t, files.Key, expired.Key)
	rename(t, files.Cert, expired.Cert[:len(expired.Cert)/2])
	rename(t, files.CA, untrusted.PEM())
	for err := fails[*client.TLSFileError](t, a); err.File != files.Cert; err = fails[*client.TLSFileError](t, a) {
	}
	rename(t, files.Cert, expired.Cert)
	if err := fails[x509.CertificateInvalidError](t, a); err.Reason != x509.Expired {
		t.Errorf("an expired server: %v", err)
	}
	present(time.Hour)
	fails[x509.UnknownAuthorityError](t, a)
	rename(t, files.CA, trusted.PEM())
	if err := fails[x509.CertificateInvalidError](t, refused); err.Reason != x509.Expired { // by the server now
		t.Errorf("an expired client: %v", err)
	}
	wrong := untrusted.Issue(t, "client", time.Hour)
	rename(t, files.Key, wrong.Key)
	rename(t, files.Cert, wrong.Cert)
	fails[x509.UnknownAuthorityError](t, refused)
	if shown.Load() != 0 {
		t.Error("a handshake was completed too early")
	}
	right := trusted.Issue(t, "client", time.Hour)
	rename(t, files.Key, right.Key)
	rename(t, files.Cert, right.Cert)
	a.connects(t)
	wantState(t, d, client.Acked)
	before := resumed.Load()
	b.Cut(c.ClientID())
	a.connects(t)
	if got := resumed.Load(); before != 0 || got != 1 {
		t.Errorf("%d connections were resumed, then %d; want 0, then 1", before, got)
	}
}

func TestTLS_IsCopied(t *testing.T) {
	b := mqtttest.Start(t, func(o *mqtttest.Options) { o.TLS = true })
	a := make(attempts, 100)
	cfg := overSockets(b.TLSURL(), a)
	cfg.TLS = b.TLSConfig()
	c := mustNew(t, cfg)
	cfg.TLS.RootCAs, cfg.TLS.ServerName = x509.NewCertPool(), "other.test" // what the program does later is its own matter
	start(t, c)
	a.connects(t)
	if cfg.TLS.ClientSessionCache != nil {
		t.Error("the application's tls.Config was changed")
	}
}

package link

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/testcert"
)

// tlsFolder holds the TLS files of a client.
type tlsFolder struct {
	t     *testing.T
	files TLSFiles
}

func newTLSFolder(t *testing.T) *tlsFolder {
	dir := t.TempDir()
	return &tlsFolder{t, TLSFiles{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ServerName: "server.test"}}
}

func (f *tlsFolder) write(name string, b []byte) {
	f.t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *tlsFolder) fill(ca *testcert.Authority, p testcert.Pair) {
	f.t.Helper()
	f.write(f.files.CA, ca.PEM())
	f.write(f.files.Cert, p.Cert)
	f.write(f.files.Key, p.Key)
}

// greeter is a TLS server that requires a certificate of ca and sends a greeting.
func greeter(t *testing.T, ca *testcert.Authority) (addr string, seen <-chan tls.ConnectionState) {
	l := listen(t, "tcp", "127.0.0.1:0")
	states, ended := make(chan tls.ConnectionState, 10), make(chan struct{})
	conf := &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "server.test", time.Hour).TLS(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := tls.Server(c, conf)
			if s.Handshake() == nil {
				states <- s.ConnectionState()
				_, _ = io.WriteString(s, "hello")
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return "mqtts://" + l.Addr().String(), states
}

// hello dials and reads until the end. By then, a refusal of the client's certificate and TLS 1.3
// session tickets have arrived.
func hello(t *testing.T, d *Dialer, addr string) error {
	t.Helper()
	c, err := d.Dial(t.Context(), server(t, addr))
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, 5)
	_, err = io.ReadFull(c, b)
	return err
}

func TestTLSFiles_AreReadForEachConnection(t *testing.T) {
	trusted, untrusted := testcert.NewAuthority(t, "trusted"), testcert.NewAuthority(t, "untrusted")
	addr, seen := greeter(t, trusted)
	f := newTLSFolder(t)
	d := &Dialer{Files: &f.files}
	wantFile := func(err error, name string, is error) {
		t.Helper()
		failed := new(TLSFileError)
		if !errors.As(err, &failed) || !strings.Contains(failed.File, name) || is != nil && !errors.Is(err, is) {
			t.Errorf("got %v, want a *TLSFileError of %s", err, name)
		}
	}
	wantFile(hello(t, d, addr), f.files.CA, os.ErrNotExist)
	good := trusted.Issue(t, "client", time.Hour)
	f.fill(trusted, good)
	f.write(f.files.Key, untrusted.Issue(t, "client", time.Hour).Key)
	wantFile(hello(t, d, addr), f.files.Key, nil) // the key of another certificate

	f.fill(untrusted, good)
	var unknown x509.UnknownAuthorityError
	if err := hello(t, d, addr); !errors.As(err, &unknown) {
		t.Errorf("another authority: %v", err)
	}
	f.fill(trusted, trusted.Issue(t, "client", -time.Minute))
	if err := hello(t, d, addr); err == nil || !strings.Contains(err.Error(), "expired certificate") {
		t.Errorf("an expired certificate: %v", err)
	}
	f.fill(trusted, untrusted.Issue(t, "client", time.Hour))
	if err := hello(t, d, addr); err == nil {
		t.Error("a certificate of another authority was taken")
	}
	// After a renewal, the second connection resumes. The third one, with another certificate, does
	// not, because the server would identify the client by the old certificate.
	for i, want := range []struct {
		name    string
		resumed bool
	}{{"one", false}, {"one", true}, {"two", false}, {"two", true}} {
		if !want.resumed {
			f.fill(trusted, trusted.Issue(t, want.name, time.Hour))
		}
		if err := hello(t, d, addr); err != nil {
			t.Fatal(err)
		}
		if s := <-seen; s.DidResume != want.resumed || s.PeerCertificates[0].Subject.CommonName != want.name || s.Version < tls.VersionTLS12 {
			t.Errorf("connection %d: resumed %v as %v", i, s.DidResume, s.PeerCertificates[0].Subject)
		}
	}
	f.files.ServerName = "" // the host of the URL, which the certificate contains too
	if err := hello(t, &Dialer{Files: &f.files}, addr); err != nil {
		t.Error(err)
	}
	f.files.ServerName = "other.test"
	var name x509.HostnameError
	if err := hello(t, &Dialer{Files: &f.files}, addr); !errors.As(err, &name) {
		t.Errorf("another name: %v", err)
	}
}

// A partially written file is either not used or equivalent. In particular, a chain or a list of
// authorities is not truncated.
func TestTLSFiles_RefusesIncompleteFiles(t *testing.T) {
	ca, other := testcert.NewAuthority(t, "one"), testcert.NewAuthority(t, "two")
	pair := ca.Issue(t, "client", time.Hour)
	whole := map[string][]byte{
		"ca":   append(append([]byte("# the authorities\n"), ca.PEM()...), other.PEM()...),
		"cert": append(bytes.Clone(pair.Cert), ca.PEM()...),
		"key":  pair.Key,
	}
	for cut, b := range whole {
		used := map[int]bool{}
		f := newTLSFolder(t)
		paths := map[string]string{"ca": f.files.CA, "cert": f.files.Cert, "key": f.files.Key}
		for name, path := range paths {
			f.write(path, whole[name])
		}
		for n := range len(b) + 1 {
			f.write(paths[cut], b[:n])
			_, err := (&Dialer{Files: &f.files}).tlsConfig(t.Context())
			if failed := new(TLSFileError); err != nil && !errors.As(err, &failed) {
				t.Fatalf("%s, %d bytes: %v", cut, n, err)
			}
			if err == nil {
				used[n] = true
			}
		}
		// A file that ends between two blocks does not look incomplete. The last line may lack its
		// line break.
		blocks := bytes.Count(b, []byte("BEGIN"))
		if !used[len(b)] || len(used) != 2*blocks {
			t.Errorf("%s: %d of %d beginnings were used, want %d", cut, len(used), len(b), 2*blocks)
		}
	}
}

func TestTLSFiles_RefusesOtherFiles(t *testing.T) {
	ca := testcert.NewAuthority(t, "one")
	f := newTLSFolder(t)
	f.fill(ca, ca.Issue(t, "client", time.Hour))
	for name, hint := range map[string]string{
		t.TempDir():                     "not a file",
		os.DevNull:                      "not a file",
		filepath.Join(t.TempDir(), "x"): "no such file",
		f.files.Key:                     "no certificate",
	} {
		files := f.files
		files.CA = name
		if _, err := (&Dialer{Files: &files}).tlsConfig(t.Context()); err == nil || !strings.Contains(err.Error(), hint) || strings.Count(err.Error(), name) != 1 {
			t.Errorf("%s: %v, want %q", name, err, hint)
		}
	}
	f.write(f.files.CA, bytes.Repeat([]byte("x"), maxTLSFile+1))
	if _, err := (&Dialer{Files: &f.files}).tlsConfig(t.Context()); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("a file without end: %v", err)
	}
	f.write(f.files.CA, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	if _, err := (&Dialer{Files: &f.files}).tlsConfig(t.Context()); err == nil {
		t.Error("an empty block was treated as a certificate")
	}
}

// The application's configuration is not modified, and its settings apply.
func TestDial_ResumesTLSSessions(t *testing.T) {
	ca := testcert.NewAuthority(t, "trusted")
	addr, seen := greeter(t, ca)
	mine := []tls.Certificate{ca.Issue(t, "client", time.Hour).TLS(t)}
	for _, tt := range []struct {
		conf *tls.Config
		want bool
	}{
		{&tls.Config{RootCAs: ca.Pool(), Certificates: mine}, true},
		{&tls.Config{RootCAs: ca.Pool(), Certificates: mine, MaxVersion: tls.VersionTLS12}, true},
		{&tls.Config{RootCAs: ca.Pool(), Certificates: mine, SessionTicketsDisabled: true}, false},
	} {
		d := &Dialer{TLS: tt.conf}
		for i := range 2 {
			if err := hello(t, d, addr); err != nil {
				t.Fatal(err)
			}
			if s := <-seen; s.DidResume != (i == 1 && tt.want) {
				t.Errorf("connection %d resumed: %v", i, s.DidResume)
			}
		}
		if tt.conf.ClientSessionCache != nil || tt.conf.MinVersion != 0 || tt.conf.ServerName != "" {
			t.Error("the caller's configuration was changed")
		}
	}
	own := tls.NewLRUClientSessionCache(1)
	conf, err := (&Dialer{TLS: &tls.Config{ClientSessionCache: own, MinVersion: tls.VersionTLS13}}).tlsConfig(t.Context())
	if err != nil || conf.ClientSessionCache != own || conf.MinVersion != tls.VersionTLS13 {
		t.Errorf("%+v, %v: not what the program says", conf, err)
	}
	if conf, err := (&Dialer{}).tlsConfig(t.Context()); err != nil || conf.MinVersion != tls.VersionTLS12 {
		t.Errorf("by default: %+v, %v", conf, err)
	}
}

// A resumed TLS session calls neither the function for the client's certificate nor the one that
// verifies the server's certificate. An application that sets these functions expects them to be
// called for each connection.
func TestDial_CallsTLSFunctionsForEachConnection(t *testing.T) {
	ca := testcert.NewAuthority(t, "trusted")
	addr, seen := greeter(t, ca)
	names := []string{"one", "two"}
	asked := 0
	d := &Dialer{TLS: &tls.Config{RootCAs: ca.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert := ca.Issue(t, names[asked], time.Hour).TLS(t)
		asked++
		return &cert, nil
	}}}
	for _, name := range names {
		if err := hello(t, d, addr); err != nil {
			t.Fatal(err)
		}
		if s := <-seen; s.PeerCertificates[0].Subject.CommonName != name {
			t.Errorf("the server saw %v, want %s", s.PeerCertificates[0].Subject, name)
		}
	}
	revoked, refusal := false, errors.New("revoked")
	mine := []tls.Certificate{ca.Issue(t, "client", time.Hour).TLS(t)}
	d = &Dialer{TLS: &tls.Config{RootCAs: ca.Pool(), Certificates: mine, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
		if revoked {
			return refusal
		}
		return nil
	}}}
	if err := hello(t, d, addr); err != nil {
		t.Fatal(err)
	}
	revoked = true
	if err := hello(t, d, addr); !errors.Is(err, refusal) {
		t.Errorf("a server that was revoked meanwhile: %v", err)
	}
}

func TestDial_ConcurrentUse(t *testing.T) {
	ca := testcert.NewAuthority(t, "trusted")
	f := newTLSFolder(t)
	f.fill(ca, ca.Issue(t, "client", time.Hour))
	for _, d := range []*Dialer{{Files: &f.files}, {}} {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				trusted, untrusted := net.Pipe()
				_ = untrusted.Close()
				conf, err := d.tlsConfig(t.Context())
				if err == nil {
					_, err = handshake(t.Context(), trusted, conf, "h")
				}
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

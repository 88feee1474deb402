package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// TLSFiles are the files of a TLS connection, in PEM. They are read again for
// each connection, so that what was renewed is used by the next.
type TLSFiles struct {
	CA         string // authorities to trust; "": the system's
	Cert, Key  string // of the client, the chain behind the certificate; "": none
	ServerName string // what the server's certificate must name; "": the host of its URL
}

// TLSFileError says which file could not be used. It is read again at the next
// attempt.
type TLSFileError struct {
	File string
	Err  error
}

func (e *TLSFileError) Error() string {
	return fmt.Sprintf("mqtt: TLS file %s cannot be used: %v; write it whole under another name and rename it, it is read again at the next attempt", e.File, e.Err)
}

// Unwrap returns Err.
func (e *TLSFileError) Unwrap() error { return e.Err }

// maxTLSFile is more than all authorities of the public take, in bytes.
const maxTLSFile = 4 << 20

// tlsSessions is how many servers' TLS sessions are kept for resumption.
const tlsSessions = 16

// fingerprint tells whether files have changed.
type fingerprint [sha256.Size]byte

// tlsConfig is the configuration for the next connection.
func (d *Dialer) tlsConfig(ctx context.Context) (*tls.Config, error) {
	if d.Files != nil {
		return d.readFiles(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conf == nil {
		conf := d.TLS.Clone()
		if conf == nil {
			conf = &tls.Config{}
		}
		if conf.MinVersion == 0 {
			conf.MinVersion = tls.VersionTLS12
		}
		// A session that is resumed asks the program neither for its certificate nor
		// about the server's: whoever gives functions for that means each connection.
		asks := conf.GetClientCertificate != nil || conf.VerifyPeerCertificate != nil
		if conf.ClientSessionCache == nil && !asks {
			conf.ClientSessionCache = tls.NewLRUClientSessionCache(tlsSessions)
		}
		d.conf = conf
	}
	return d.conf, nil
}

// reading is one of the files, and what came of it when it is done.
type reading struct {
	done chan struct{}
	conf *tls.Config
	err  error
}

// readFiles reads the files beside the attempt that ctx belongs to, since a file
// system may hang. A reading that does is left behind, and the next attempt waits for
// it instead of beginning another.
func (d *Dialer) readFiles(ctx context.Context) (*tls.Config, error) {
	d.mu.Lock()
	r := d.reading
	if r == nil {
		r = &reading{done: make(chan struct{})}
		d.reading = r
		go func() {
			r.conf, r.err = d.fromFiles()
			d.mu.Lock()
			d.reading = nil
			d.mu.Unlock()
			close(r.done)
		}()
	}
	d.mu.Unlock()
	select {
	case <-r.done:
		return r.conf, r.err
	case <-ctx.Done():
		names := slices.DeleteFunc([]string{d.Files.CA, d.Files.Cert, d.Files.Key}, func(s string) bool { return s == "" })
		return nil, &TLSFileError{File: strings.Join(names, " or "), Err: fmt.Errorf("reading takes too long: %w", context.Cause(ctx))}
	}
}

// fromFiles reads the files; one goroutine at a time does. If one has changed, TLS
// sessions are forgotten: a session that is resumed shows the server no certificate,
// and checks none.
func (d *Dialer) fromFiles() (*tls.Config, error) {
	f := d.Files
	var contents [3][]byte
	var sums []byte
	for i, name := range []string{f.CA, f.Cert, f.Key} {
		if name != "" {
			b, err := readPEM(name)
			if err != nil {
				return nil, &TLSFileError{File: name, Err: err}
			}
			contents[i] = b
		}
		sum := sha256.Sum256(contents[i])
		sums = append(sums, sum[:]...)
	}
	sum := fingerprint(sha256.Sum256(sums))
	if d.conf != nil && sum == d.sum {
		return d.conf, nil
	}
	conf := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions)}
	if f.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if err := addAuthorities(conf.RootCAs, contents[0]); err != nil {
			return nil, &TLSFileError{File: f.CA, Err: err}
		}
	}
	if f.Cert != "" {
		pair, err := tls.X509KeyPair(contents[1], contents[2])
		if err != nil {
			return nil, &TLSFileError{File: f.Cert + " with " + f.Key, Err: err}
		}
		// Shown whatever authorities the server names, as it was configured to be:
		// its "unknown authority" says more than "no certificate".
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	d.conf, d.sum = conf, sum
	return conf, nil
}

// readPEM reads a file and wants all blocks that begin in it to be whole: the
// decoders of the standard library pass over those that are not.
func readPEM(name string) ([]byte, error) {
	info, err := os.Stat(name) // first: to open a pipe may take for ever
	if err != nil {
		return nil, inner(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, inner(err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxTLSFile+1))
	if err != nil {
		return nil, inner(err)
	}
	if len(b) > maxTLSFile {
		return nil, fmt.Errorf("it is longer than %d bytes", maxTLSFile)
	}
	begun, whole := bytes.Count(append([]byte{'\n'}, b...), []byte("\n-----BEGIN ")), 0
	for rest := b; ; whole++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
	}
	if tail := b[bytes.LastIndexByte(b, '\n')+1:]; bytes.HasPrefix(tail, []byte("-")) && !bytes.HasPrefix(tail, []byte("-----END ")) {
		begun = whole + 1 // no more than the beginning of its first line is there
	}
	if whole == 0 || whole < begun {
		return nil, fmt.Errorf("of %d PEM blocks %d are whole", begun, whole)
	}
	return b, nil
}

// inner takes the path out, which the TLSFileError has.
func inner(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func addAuthorities(pool *x509.CertPool, b []byte) error {
	n := 0
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return errors.New("there is no certificate in it")
	}
	return nil
}

package link

import (
	"bytes"
	"cmp"
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

// TLSFiles names the PEM files of a TLS connection. They are read for each
// connection, so that the next one uses renewed files.
type TLSFiles struct {
	CA         string // authorities to trust; "": the system's
	Cert, Key  string // of the client, followed by the chain; "": none
	ServerName string // what the server's certificate must name; "": the host of its URL
}

// TLSFileError names a file that cannot be used. The next attempt reads it again.
type TLSFileError struct {
	File string
	Err  error
}

func (e *TLSFileError) Error() string {
	return fmt.Sprintf("mqtt: TLS file %s cannot be used: %v; write it whole under another name and rename it, it is read again at the next attempt", e.File, e.Err)
}
func (e *TLSFileError) Unwrap() error { return e.Err }

// SafeToRetry returns true: there was no connection.
func (*TLSFileError) SafeToRetry() bool { return true }

// maxTLSFile bounds a file, in bytes. All public authorities together are smaller.
const maxTLSFile = 4 << 20

// tlsSessions is the number of servers whose TLS sessions are kept.
const tlsSessions = 16

// fingerprint is the hashes of the contents of files.
type fingerprint [3][sha256.Size]byte

// tlsConfig returns the configuration for the next connection.
func (d *Dialer) tlsConfig(ctx context.Context) (*tls.Config, error) {
	if d.Files != nil {
		return d.readFiles(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conf == nil {
		conf := cmp.Or(d.TLS, &tls.Config{}).Clone()
		conf.MinVersion = cmp.Or(conf.MinVersion, tls.VersionTLS12)
		// A resumed session calls neither of these, which are meant for each connection.
		asks := conf.GetClientCertificate != nil || conf.VerifyPeerCertificate != nil
		if conf.ClientSessionCache == nil && !asks {
			conf.ClientSessionCache = tls.NewLRUClientSessionCache(tlsSessions)
		}
		d.conf = conf
	}
	return d.conf, nil
}

// reading is one pass over the files. conf and err are set when done is closed.
type reading struct {
	done chan struct{}
	conf *tls.Config
	err  error
}

// readFiles reads the files on a goroutine of its own, since a file system may hang.
// When ctx ends first, the next attempt waits for that goroutine and starts no other.
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

// fromFiles reads the files, on one goroutine at a time. If one has changed, TLS
// sessions are discarded: a resumed session neither sends nor checks certificates.
func (d *Dialer) fromFiles() (*tls.Config, error) {
	f := d.Files
	var contents [3]pemFile
	var sum fingerprint
	for i, name := range []string{f.CA, f.Cert, f.Key} {
		if name != "" {
			var err error
			if contents[i], err = readPEM(name); err != nil {
				if path := (*os.PathError)(nil); errors.As(err, &path) {
					err = path.Err // TLSFileError has the path
				}
				return nil, &TLSFileError{File: name, Err: err}
			}
		}
		sum[i] = sha256.Sum256(contents[i].data)
	}
	if d.conf != nil && sum == d.sum {
		return d.conf, nil
	}
	conf := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions)}
	if f.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if err := addAuthorities(conf.RootCAs, contents[0].blocks); err != nil {
			return nil, &TLSFileError{File: f.CA, Err: err}
		}
	}
	if f.Cert != "" {
		pair, err := tls.X509KeyPair(contents[1].data, contents[2].data)
		if err != nil {
			return nil, &TLSFileError{File: f.Cert + " with " + f.Key, Err: err}
		}
		// Send it whatever authorities the server names: the server's alert "unknown
		// authority" is more useful than "no certificate".
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	d.conf, d.sum = conf, sum
	return conf, nil
}

type pemFile struct {
	data   []byte
	blocks []*pem.Block
}

// readPEM reads a file whose blocks must be complete: the standard library skips others.
func readPEM(name string) (f pemFile, err error) {
	info, err := os.Stat(name) // first: opening a pipe may block forever
	if err != nil {
		return f, err
	}
	if !info.Mode().IsRegular() {
		return f, errors.New("it is not a file")
	}
	file, err := os.Open(name)
	if err != nil {
		return f, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxTLSFile+1))
	if err != nil {
		return f, err
	}
	if len(b) > maxTLSFile {
		return f, fmt.Errorf("it is longer than %d bytes", maxTLSFile)
	}
	f.data = b
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		f.blocks = append(f.blocks, block)
	}
	begun, whole := bytes.Count(append([]byte{'\n'}, b...), []byte("\n-----BEGIN ")), len(f.blocks)
	if tail := b[bytes.LastIndexByte(b, '\n')+1:]; bytes.HasPrefix(tail, []byte("-")) && !bytes.HasPrefix(tail, []byte("-----END ")) {
		begun = whole + 1 // the file ends within the first line of a block
	}
	if whole == 0 || whole < begun {
		return f, fmt.Errorf("only %d of %d PEM blocks are complete", whole, begun)
	}
	return f, nil
}

func addAuthorities(pool *x509.CertPool, blocks []*pem.Block) error {
	missing := errors.New("it has no certificate")
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		pool.AddCert(cert)
		missing = nil
	}
	return missing
}

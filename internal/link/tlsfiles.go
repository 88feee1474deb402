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

// TLSFiles names the files of a TLS connection. They are read for each connection, so renewed files
// take effect on the next one.
type TLSFiles struct {
	CA         string // trusted authorities; "": those of the system
	Cert, Key  string // of the client, followed by the chain; "": no client certificate
	ServerName string // name that the server's certificate must have; "": the host of the URL
}

// TLSFileError reports a file that cannot be used. The next attempt reads it again.
type TLSFileError struct {
	File    string
	Err     error
	Format  string // of the file, if the format is not supported
	Convert string // command that converts the file; "": there is none
}

func (e *TLSFileError) Error() string {
	const renew = "; write it whole under another name and rename it, it is read again at the next attempt"
	s := fmt.Sprintf("mqtt: TLS file %s cannot be used: %v", e.File, e.Err)
	if e.Format != "" {
		return s
	}
	return s + renew
}

func (e *TLSFileError) Unwrap() error { return e.Err }

// fileError returns the error for a file.
func fileError(name string, err error) *TLSFileError {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		err = path.Err // TLSFileError has the path
	}
	e := &TLSFileError{File: name, Err: err}
	if format := (*formatError)(nil); errors.As(err, &format) {
		named := *format
		named.command = strings.ReplaceAll(named.command, "FILE", shellWord(name))
		e.Err, e.Format, e.Convert = &named, named.format, named.command
	}
	return e
}

// shellWord quotes a word for a shell, if necessary.
func shellWord(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r))
	}) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// SafeToRetry returns true, because there was no connection.
func (*TLSFileError) SafeToRetry() bool { return true }

// maxTLSFile bounds the size of a file, in bytes. All public authorities together are smaller.
const maxTLSFile = 4 << 20

// tlsSessions is the number of servers whose TLS sessions are kept.
const tlsSessions = 16

// fingerprint holds the hashes of the contents of the files.
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
		// A resumed session calls neither of these functions, although the application expects the
		// call for each connection.
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

// readFiles reads the files on a separate goroutine, because a file system may hang. If ctx ends
// first, the next attempt waits for that goroutine and starts no other.
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

// fromFiles reads the files. It runs on one goroutine at a time. If a file has changed, the TLS
// sessions are discarded, because a resumed session neither sends nor checks certificates.
func (d *Dialer) fromFiles() (*tls.Config, error) {
	f := d.Files
	var contents [3]pemFile
	var sum fingerprint
	for i, name := range []string{authorities: f.CA, certificate: f.Cert, privateKey: f.Key} {
		if name != "" {
			var err error
			if contents[i], err = readPEM(name, content(i)); err != nil {
				return nil, fileError(name, err)
			}
		}
		sum[i] = sha256.Sum256(contents[i].data)
	}
	if d.conf != nil && sum == d.sum {
		return d.conf, nil
	}
	var leftOut, err error
	conf := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions)}
	if f.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if leftOut, err = addAuthorities(conf.RootCAs, contents[authorities].blocks); err != nil {
			return nil, &TLSFileError{File: f.CA, Err: err}
		}
	}
	if f.Cert != "" {
		pair, err := keyPair(contents[certificate], contents[privateKey].data)
		if err != nil {
			return nil, &TLSFileError{File: f.Cert + " with " + f.Key, Err: err}
		}
		// Send the certificate for any list of authorities that the server names. The server's
		// alert "unknown authority" is more useful than "no certificate".
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	d.conf, d.sum = conf, sum
	d.mu.Lock()
	d.leftOut = leftOut
	d.mu.Unlock()
	return conf, nil
}

// explained adds to a verification error that certificates of the CA file are unusable.
func (d *Dialer) explained(err error) error {
	d.mu.Lock()
	leftOut := d.leftOut
	d.mu.Unlock()
	if unknown := (x509.UnknownAuthorityError{}); leftOut != nil && errors.As(err, &unknown) {
		return fmt.Errorf("%w; in %s, %w", err, d.Files.CA, leftOut)
	}
	return err
}

// CheckFiles reads Files and returns a *TLSFileError if a file has an unsupported format. It
// returns nil for problems that may go away: files that are missing, incomplete, or do not match
// each other.
func (d *Dialer) CheckFiles(ctx context.Context) error {
	if d.Files == nil {
		return nil
	}
	_, err := d.readFiles(ctx)
	if wrong := (*TLSFileError)(nil); errors.As(err, &wrong) && wrong.Format != "" {
		return wrong
	}
	return nil
}

// keyPair returns the client's certificate with its chain. The certificate that matches the key
// need not be the first.
func keyPair(cert pemFile, key []byte) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert.data, key)
	for i := 1; err != nil && i < len(cert.blocks); i++ {
		data := pem.EncodeToMemory(cert.blocks[i])
		for j, b := range cert.blocks {
			if j != i {
				data = append(data, pem.EncodeToMemory(b)...)
			}
		}
		if other, e := tls.X509KeyPair(data, key); e == nil {
			return other, nil
		}
	}
	return pair, err
}

type pemFile struct {
	data   []byte
	blocks []*pem.Block
}

// readPEM reads a file. All PEM blocks must be complete, because the standard library skips
// incomplete ones.
func readPEM(name string, of content) (f pemFile, err error) {
	info, err := os.Stat(name) // before opening: opening a pipe may block forever
	if err != nil {
		return f, err
	}
	if info.IsDir() {
		return f, &formatError{"a folder, not a file", "", "name a file in it"}
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
	if len(bytes.TrimSpace(b)) == 0 {
		return f, errors.New("it is empty")
	}
	if b, err = readable(b, of); err != nil {
		return f, err
	}
	f.data = b
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		f.blocks = append(f.blocks, block)
	}
	begun, whole := bytes.Count(append([]byte{'\n'}, b...), []byte("\n-----BEGIN ")), len(f.blocks)
	if tail := b[bytes.LastIndexByte(b, '\n')+1:]; bytes.HasPrefix(tail, []byte("-")) && !bytes.HasPrefix(tail, []byte("-----END ")) {
		begun = whole + 1 // the file ends within the first line of a block
	}
	if whole == 0 && begun == 0 {
		return f, errors.New("it has no PEM block (-----BEGIN …-----)")
	}
	if whole < begun {
		return f, fmt.Errorf("only %d of %d PEM blocks are complete", whole, begun)
	}
	return f, checkBlocks(f.blocks, of)
}

// addAuthorities adds the certificates to pool. leftOut describes unusable certificates if others
// are usable.
func addAuthorities(pool *x509.CertPool, blocks []*pem.Block) (leftOut, err error) {
	number, used := 0, 0
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		number++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			if leftOut == nil {
				leftOut = fmt.Errorf("certificate %d cannot be used: %w", number, err)
			}
			continue
		}
		pool.AddCert(cert)
		used++
	}
	if used == 0 {
		return nil, leftOut
	}
	return leftOut, nil
}

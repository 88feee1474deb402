package link

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/mooring-mqtt/mooring/internal/ostest"
	"github.com/mooring-mqtt/mooring/internal/testcert"
)

// formBed holds an authority, a client's certificate with its chain, and the key.
type formBed struct {
	*tlsFolder
	ca, cert, key []byte // PEM
}

func newFormBed(t *testing.T) *formBed {
	t.Helper()
	ca := testcert.NewAuthority(t, "forms")
	pair := ca.Issue(t, "client", time.Hour)
	b := &formBed{newTLSFolder(t), append(ca.PEM(), testcert.NewAuthority(t, "another").PEM()...), append(pair.Cert, ca.PEM()...), pair.Key}
	b.restore()
	return b
}

// restore writes correct files.
func (b *formBed) restore() {
	b.write(b.files.CA, b.ca)
	b.write(b.files.Cert, b.cert)
	b.write(b.files.Key, b.key)
}

// check reads the files, which must give the same authorities and certificate as the PEM files.
func (b *formBed) check(t *testing.T, what string) {
	t.Helper()
	d := &Dialer{Files: &b.files}
	conf, err := d.tlsConfig(t.Context())
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b.ca)
	if !conf.RootCAs.Equal(pool) {
		t.Errorf("%s: other authorities", what)
	}
	leaf, _ := pem.Decode(b.cert)
	if c, err := conf.GetClientCertificate(nil); err != nil || !bytes.Equal(c.Certificate[0], leaf.Bytes) || len(c.Certificate) != 2 {
		t.Errorf("%s: another certificate, %v", what, err)
	}
	if err := d.CheckFiles(t.Context()); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func utf16Of(b []byte, bom, big bool) []byte {
	units := utf16.Encode([]rune(string(b)))
	if bom {
		units = append([]uint16{0xFEFF}, units...)
	}
	var out []byte
	for _, u := range units {
		if big {
			out = append(out, byte(u>>8), byte(u))
		} else {
			out = append(out, byte(u), byte(u>>8))
		}
	}
	return out
}

func replaced(old, with string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(old), []byte(with)) }
}

// ders returns the concatenated contents of all PEM blocks.
func ders(b []byte) (out []byte) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		out = append(out, block.Bytes...)
	}
	return out
}

// TestTLSFiles_AcceptedForms writes each file in each readable form.
func TestTLSFiles_AcceptedForms(t *testing.T) {
	b := newFormBed(t)
	b.check(t, "PEM")
	for name, form := range map[string]func([]byte) []byte{
		"byte order mark":             func(pem []byte) []byte { return append([]byte("\xEF\xBB\xBF"), pem...) },
		"CRLF":                        replaced("\n", "\r\n"),
		"CR":                          replaced("\n", "\r"),
		"UTF-16, little end":          func(pem []byte) []byte { return utf16Of(pem, true, false) },
		"UTF-16, big end":             func(pem []byte) []byte { return utf16Of(pem, true, true) },
		"UTF-16, little end, no mark": func(pem []byte) []byte { return utf16Of(pem, false, false) },
		"UTF-16, big end, no mark":    func(pem []byte) []byte { return utf16Of(pem, false, true) },
		"UTF-16 with CRLF":            func(pem []byte) []byte { return utf16Of(replaced("\n", "\r\n")(pem), true, false) },
		"byte order mark and CRLF":    func(pem []byte) []byte { return append([]byte("\xEF\xBB\xBF"), replaced("\n", "\r\n")(pem)...) },
		"indented":                    func(pem []byte) []byte { return append([]byte("    "), replaced("\n", "\n    ")(pem)...) },
		"spaces at the ends of lines": replaced("\n", " \t\n"),
		"one line":                    func(pem []byte) []byte { return replaced("\n", `\n`)(bytes.TrimSpace(pem)) },
		"text around the blocks": func(pem []byte) []byte {
			return append(append([]byte("Bag Attributes\n  x: y\n"), pem...), "the end\n"...)
		},
		"DER":    ders,
		"base64": func(pem []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(ders(pem))) },
		"base64 in lines": func(pem []byte) []byte {
			text := base64.StdEncoding.EncodeToString(ders(pem))
			return []byte(text[:64] + "\r\n" + text[64:] + "\r\n")
		},
		"an old name": replaced(" CERTIFICATE-----", " X509 CERTIFICATE-----"),
	} {
		for path, whole := range map[string][]byte{b.files.CA: b.ca, b.files.Cert: b.cert, b.files.Key: b.key} {
			b.write(path, form(whole))
			b.check(t, name+" of "+filepath.Base(path))
			b.restore()
		}
	}

	// The chain in another order, and all blocks in one file.
	first, rest := pem.Decode(b.cert)
	b.write(b.files.Cert, append(bytes.Clone(rest), pem.EncodeToMemory(first)...))
	b.check(t, "the chain before the certificate")
	all := append(append(bytes.Clone(b.key), b.cert...), b.ca...)
	b.write(b.files.Cert, append(bytes.Clone(b.key), b.cert...))
	b.write(b.files.Key, all)
	b.check(t, "key and certificates in one file")
	b.restore()

	// Keys in an old format of OpenSSL.
	block, _ := pem.Decode(b.key)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalECPrivateKey(parsed.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	b.write(b.files.Key, ec)
	b.check(t, "an EC key in DER")
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}})
	b.write(b.files.Key, append(parameters, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec})...))
	b.check(t, "an EC key after its parameters")
}

// TestTLSFiles_OneUnusableCertificate checks that the other certificates of a bundle are used. A
// failed verification names the unusable one.
func TestTLSFiles_OneUnusableCertificate(t *testing.T) {
	b := newFormBed(t)
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 3, 2, 1, 1}})
	b.write(b.files.CA, append(bytes.Clone(broken), b.ca...))
	b.check(t, "one of three authorities is unusable")

	stranger := testcert.NewAuthority(t, "stranger")
	l := listen(t, "tcp", "127.0.0.1:0")
	serveTLS(t, l, stranger.Issue(t, "server.test", time.Hour).TLS(t))
	d := &Dialer{Files: &b.files}
	u, err := ParseServer("mqtts://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Dial(t.Context(), u)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "in "+b.files.CA+", certificate 1 cannot be used: ") {
		t.Errorf("an authority that is unknown: %v", err)
	}
	b.write(b.files.CA, b.ca)
	if _, err = d.Dial(t.Context(), u); !errors.As(err, &unknown) || strings.Contains(err.Error(), "cannot be used") {
		t.Errorf("after the file was mended: %v", err)
	}
	b.write(b.files.CA, broken)
	var file *TLSFileError
	if _, err := d.tlsConfig(t.Context()); !errors.As(err, &file) || file.File != b.files.CA || !strings.Contains(err.Error(), "certificate 1 cannot be used: x509") {
		t.Errorf("only an unusable certificate: %v", err)
	}
	b.write(b.files.CA, append(bytes.Clone(b.ca), "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n"...))
	if _, err := d.tlsConfig(t.Context()); !errors.As(err, &file) || !strings.Contains(err.Error(), "only 2 of 3 PEM blocks are complete") {
		t.Errorf("a block that is no base64: %v", err)
	}
}

func der(t *testing.T, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTLSFiles_RefusedFormats checks that the error of a connection and of CheckFiles names
// the format and the remedy.
func TestTLSFiles_RefusedFormats(t *testing.T) {
	b := newFormBed(t)
	oid := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, n} }
	type contentInfo struct {
		Type asn1.ObjectIdentifier
		Body []byte `asn1:"explicit,tag:0"`
	}
	pfx := der(t, struct {
		Version int
		Safe    contentInfo
	}{3, contentInfo{oid(1), []byte{1}}})
	p7 := der(t, contentInfo{oid(2), []byte{1}})
	sealed := der(t, struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}}, []byte{1, 2, 3}})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := pem.Decode(b.cert)
	armored := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte{1, 2, 3}})
	for _, tt := range []struct {
		name                 string
		file, data           string
		format, convert, fix string
	}{
		{"PKCS#12", "ca", string(pfx), "PKCS#12", "openssl pkcs12 -in FILE -nokeys -out ca.pem", ""},
		{"PKCS#12", "cert", string(pfx), "PKCS#12", "openssl pkcs12 -in FILE -nokeys -out cert.pem", ""},
		{"PKCS#12", "key", string(pfx), "PKCS#12", "openssl pkcs12 -in FILE -nocerts -nodes -out key.pem", ""},
		{"PKCS#12 in base64", "key", base64.StdEncoding.EncodeToString(pfx), "PKCS#12", "openssl pkcs12 -in FILE -nocerts -nodes -out key.pem", ""},
		{"PKCS#7", "ca", string(p7), "PKCS#7", "openssl pkcs7 -inform DER -in FILE -print_certs -out certs.pem", ""},
		{"PKCS#7 in PEM", "cert", string(armored("PKCS7", p7)), "PKCS#7", "openssl pkcs7 -in FILE -print_certs -out certs.pem", ""},
		{"PKCS#7", "key", string(p7), "certificates", "", "name the file of the private key"},
		{"passphrase, PKCS#8", "key", string(armored("ENCRYPTED PRIVATE KEY", sealed)), "passphrase", "openssl pkey -in FILE -out key.pem", ""},
		{"passphrase, DER", "key", string(sealed), "passphrase", "openssl pkey -inform DER -in FILE -out key.pem", ""},
		{"passphrase, old", "key", string(old), "passphrase", "openssl pkey -in FILE -out key.pem", ""},
		{"passphrase, CRLF", "key", strings.ReplaceAll(string(old), "\n", "\r\n"), "passphrase", "openssl pkey -in FILE -out key.pem", ""},
		{"OpenSSH", "key", string(armored("OPENSSH PRIVATE KEY", []byte{1})), "OpenSSH", "ssh-keygen -p -N '' -m PKCS8 -f FILE", ""},
		{"PuTTY", "key", "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n", "PuTTY", "puttygen FILE -O private-openssh-new -o key && ssh-keygen -p -N '' -m PKCS8 -f key", ""},
		{"SSH, public", "key", "ssh-ed25519 AAAAC3Nz x@y\n", "public key of SSH", "", "name the file of the private key"},
		{"Java", "cert", "\xFE\xED\xFE\xED\x00\x00\x00\x02", "Java key store", "keytool", ""},
		{"trusted certificate", "ca", string(armored("TRUSTED CERTIFICATE", ders(b.ca))), "trusted certificate", "openssl x509 -in FILE -out cert.pem", ""},
		{"request", "cert", string(armored("CERTIFICATE REQUEST", csr)), "signing request", "", "that the authority has made"},
		{"request in DER", "cert", string(csr), "signing request", "", "that the authority has made"},
		{"swapped", "cert", string(b.key), "a private key and no certificate", "", "Cert and Key may be swapped"},
		{"swapped", "key", string(b.cert), "a certificate and no private key", "", "Cert and Key may be swapped"},
		{"swapped, DER", "key", string(leaf.Bytes), "a certificate and no private key", "", "Cert and Key may be swapped"},
		{"swapped, DER", "cert", string(ders(b.key)), "a private key and no certificate", "", "Cert and Key may be swapped"},
		{"key as authority", "ca", string(b.key), "a private key and no certificate", "", "name the file of the certificate"},
		{"public key", "key", string(armored("PUBLIC KEY", []byte{1})), "a public key", "", "name the file of the private key"},
		{"parameters", "key", string(armored("DH PARAMETERS", []byte{1})), "without a private key", "", "name the file that has one"},
		{"a page", "ca", "<!DOCTYPE html><html>", "HTML", "", "download"},
	} {
		path := map[string]string{"ca": b.files.CA, "cert": b.files.Cert, "key": b.files.Key}[tt.file]
		b.write(path, []byte(tt.data))
		d := &Dialer{Files: &b.files}
		var file *TLSFileError
		_, err := d.tlsConfig(t.Context())
		convert := strings.ReplaceAll(tt.convert, "FILE", path)
		switch {
		case !errors.As(err, &file) || file.File != path || !strings.Contains(file.Format, tt.format):
			t.Errorf("%s as %s: %v (%+v), want the format %q", tt.name, tt.file, err, file, tt.format)
		case convert == "" && file.Convert != "" || !strings.HasPrefix(file.Convert, convert) || !strings.Contains(err.Error(), convert) || !strings.Contains(err.Error(), tt.fix):
			t.Errorf("%s as %s: %v, want %q or %q", tt.name, tt.file, err, convert, tt.fix)
		case !errors.As(d.CheckFiles(t.Context()), &file):
			t.Errorf("%s as %s: CheckFiles takes it", tt.name, tt.file)
		}
		b.restore()
	}
	// CheckFiles does not report problems that may go away.
	for what, data := range map[string][]byte{"nothing": {}, "half a file": b.key[:len(b.key)/2], "another key": testcert.NewAuthority(t, "x").Issue(t, "x", time.Hour).Key, "noise": []byte("noise"), "half of DER": ders(b.key)[:30]} {
		b.write(b.files.Key, data)
		d := &Dialer{Files: &b.files}
		if _, err := d.tlsConfig(t.Context()); err == nil {
			t.Errorf("%s: it is used", what)
		}
		if err := d.CheckFiles(t.Context()); err != nil {
			t.Errorf("%s: CheckFiles returns %v", what, err)
		}
	}
}

// TestTLSFiles_ConvertWorks runs the commands in the errors.
func TestTLSFiles_ConvertWorks(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		ostest.Missing(t, "MOORING_REQUIRE_PEERS", "openssl on PATH, because errors name its commands")
	}
	b := newFormBed(t)
	dir := filepath.Dir(b.files.CA)
	run := func(command string) bool {
		t.Helper()
		c := exec.CommandContext(t.Context(), "sh", "-c", command)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
		}
		return err == nil
	}
	const in, out = " -passin pass:x", " -passout pass:x"
	for _, tt := range []struct{ make, file, with, makes string }{
		{"openssl pkcs12 -export -in cert.pem -inkey key.pem -out 'made it.p12'" + out, "cert", in, "cert.pem"},
		{"openssl pkcs12 -export -in cert.pem -inkey key.pem -out 'made it.p12'" + out, "key", in, "key.pem"},
		{"openssl pkey -in key.pem -aes256 -out 'made it.p12'" + out, "key", in, "key.pem"},
		{"openssl pkcs8 -topk8 -in key.pem -outform DER -out 'made it.p12'" + out, "key", in, "key.pem"},
		{"openssl crl2pkcs7 -nocrl -certfile cert.pem -outform DER -out 'made it.p12'", "cert", "", "certs.pem"},
		{"openssl crl2pkcs7 -nocrl -certfile cert.pem -out 'made it.p12'", "cert", "", "certs.pem"},
	} {
		b.restore()
		if !run(tt.make) {
			continue
		}
		files, made := b.files, filepath.Join(dir, "made it.p12")
		if tt.file == "cert" {
			files.Cert = made
		} else {
			files.Key = made
		}
		var file *TLSFileError
		if err := (&Dialer{Files: &files}).CheckFiles(t.Context()); !errors.As(err, &file) || file.Convert == "" {
			t.Errorf("%s: %v", tt.make, err)
			continue
		}
		if tt.makes != "certs.pem" {
			if err := os.Remove(filepath.Join(dir, tt.makes)); err != nil {
				t.Fatal(err)
			}
		}
		if !run(file.Convert + tt.with) {
			continue
		}
		if tt.makes == "certs.pem" {
			if err := os.Rename(filepath.Join(dir, "certs.pem"), b.files.Cert); err != nil {
				t.Fatal(err)
			}
		}
		b.check(t, file.Convert)
	}
}

// serveTLS completes the handshakes of clients and closes their connections.
func serveTLS(t *testing.T, l net.Listener, cert tls.Certificate) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
}

package link

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// content is the purpose of a TLS file.
type content int

const (
	authorities content = iota
	certificate
	privateKey
)

func (c content) String() string { return [...]string{"certificate", "certificate", "private key"}[c] }

// formatError reports a file in an unsupported format. Waiting does not help.
type formatError struct {
	format  string // with its article
	command string // command that converts it; "": there is none
	advice  string // if there is no command
}

func (e *formatError) Error() string {
	if e.command != "" {
		return fmt.Sprintf("it is %s; convert it: %s", e.format, e.command)
	}
	return fmt.Sprintf("it is %s; %s", e.format, e.advice)
}

// Unsupported formats. FILE stands for the name of the file.
var (
	pkcs12 = map[content]string{
		authorities: "openssl pkcs12 -in FILE -nokeys -out ca.pem",
		certificate: "openssl pkcs12 -in FILE -nokeys -out cert.pem",
		privateKey:  "openssl pkcs12 -in FILE -nocerts -nodes -out key.pem",
	}
	keyStore = &formatError{"a Java key store", "keytool -importkeystore -srckeystore FILE -destkeystore store.p12 -deststoretype PKCS12, and then openssl pkcs12 -in store.p12 -nodes -out all.pem", ""}
)

// pkcs8Encrypted returns the error for a private key with a passphrase.
func pkcs8Encrypted() *formatError {
	return &formatError{"a private key with a passphrase", "openssl pkey -in FILE -out key.pem", ""}
}

// readable returns the PEM text of a file in another form: with a byte order mark, in UTF-16, with
// other line breaks, indented, in one line, in DER, or in base64 without the PEM header lines. It
// returns unknown content unchanged. An error is a *formatError.
func readable(b []byte, of content) ([]byte, error) {
	b = asUTF8(b)
	if text := asLines(b); bytes.Contains(text, []byte("-----BEGIN ")) {
		return bytes.ReplaceAll(text, []byte(" X509 CERTIFICATE-----"), []byte(" CERTIFICATE-----")), nil
	}
	if len(b) > 0 && (b[0] == 0x30 || bytes.HasPrefix(b, []byte{0xFE, 0xED, 0xFE, 0xED}) || bytes.HasPrefix(b, []byte{0xCE, 0xCE, 0xCE, 0xCE})) {
		return fromDER(b, of)
	}
	if der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(b), nil))); err == nil && len(der) > 0 && der[0] == 0x30 {
		return fromDER(der, of)
	}
	text := strings.TrimSpace(string(b))
	switch {
	case strings.HasPrefix(text, "PuTTY-User-Key-File"):
		return nil, &formatError{"a key of PuTTY", "puttygen FILE -O private-openssh-new -o key && ssh-keygen -p -N '' -m PKCS8 -f key", ""}
	case strings.HasPrefix(text, "ssh-"), strings.HasPrefix(text, "ecdsa-sha2-"):
		return nil, &formatError{"a public key of SSH", "", "name the file of the " + of.String()}
	case strings.HasPrefix(text, "<"):
		return nil, &formatError{"an HTML or XML page", "", "download the " + of.String() + " itself"}
	}
	return b, nil
}

// asUTF8 removes a byte order mark and decodes UTF-16.
func asUTF8(b []byte) []byte {
	big := bytes.HasPrefix(b, []byte{0xFE, 0xFF}) || bytes.HasPrefix(b, []byte("\x00-\x00-"))
	if !big && !bytes.HasPrefix(b, []byte{0xFF, 0xFE}) && !bytes.HasPrefix(b, []byte("-\x00-\x00")) {
		return bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF"))
	}
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) > 1; b = b[2:] {
		unit := uint16(b[0]) | uint16(b[1])<<8
		if big {
			unit = unit<<8 | unit>>8
		}
		units = append(units, unit)
	}
	return bytes.TrimPrefix([]byte(string(utf16.Decode(units))), []byte("\uFEFF"))
}

// asLines returns the text with the line breaks that PEM needs, and without indentation. It also
// replaces \n, which an environment variable may contain instead of line breaks.
func asLines(b []byte) []byte {
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b))
	if !strings.Contains(strings.TrimSpace(text), "\n") {
		text = strings.ReplaceAll(text, `\n`, "\n")
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.Trim(line, " \t\n"))
		if strings.HasSuffix(line, "\n") {
			out.WriteByte('\n')
		}
	}
	return []byte(out.String())
}

// fromDER converts a binary file to PEM.
func fromDER(b []byte, of content) ([]byte, error) {
	if b[0] != 0x30 {
		return nil, keyStore
	}
	if of == privateKey {
		_, err := x509.ParsePKCS8PrivateKey(b)
		if err == nil {
			return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}), nil
		}
		if _, err := x509.ParsePKCS1PrivateKey(b); err == nil {
			return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: b}), nil
		}
		if _, err := x509.ParseECPrivateKey(b); err == nil {
			return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b}), nil
		}
	} else if list, err := x509.ParseCertificates(b); err == nil && len(list) > 0 {
		var out []byte
		for _, c := range list {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		return out, nil
	}
	return nil, unusableDER(b, of)
}

// unusableDER returns an error that names the format of a binary file, or nil if the format is
// unknown or the file is incomplete.
func unusableDER(b []byte, of content) error {
	// The beginnings of these formats.
	var pfx struct {
		Version int
		Content asn1.RawValue
		Mac     asn1.RawValue `asn1:"optional"`
	}
	var message struct {
		Type asn1.ObjectIdentifier
		Body asn1.RawValue `asn1:"optional"`
	}
	var encrypted struct {
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Data []byte
	}
	if _, err := asn1.Unmarshal(b, &pfx); err == nil && pfx.Version == 3 && pfx.Content.Tag == asn1.TagSequence {
		return &formatError{"PKCS#12 (.p12, .pfx)", pkcs12[of], ""}
	}
	if _, err := asn1.Unmarshal(b, &message); err == nil && message.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}) {
		return pkcs7(of, "-inform DER ")
	}
	if _, err := asn1.Unmarshal(b, &encrypted); err == nil {
		e := pkcs8Encrypted()
		e.format, e.command = "a private key with a passphrase, in DER", "openssl pkey -inform DER -in FILE -out key.pem"
		return e
	}
	if _, err := x509.ParseCertificate(b); err == nil {
		return swapped(of, "a certificate")
	}
	for _, parse := range []func([]byte) error{
		func(b []byte) error { _, err := x509.ParsePKCS8PrivateKey(b); return err },
		func(b []byte) error { _, err := x509.ParsePKCS1PrivateKey(b); return err },
		func(b []byte) error { _, err := x509.ParseECPrivateKey(b); return err },
	} {
		if parse(b) == nil {
			return swapped(of, "a private key")
		}
	}
	if _, err := x509.ParseCertificateRequest(b); err == nil {
		return request(of)
	}
	return errors.New("it is binary, and neither a " + of.String() + " in DER nor a known format; it may be incomplete")
}

func pkcs7(of content, inform string) error {
	if of == privateKey {
		return swapped(of, "a list of certificates in PKCS#7 (.p7b)")
	}
	return &formatError{"PKCS#7 (.p7b, .p7c)", "openssl pkcs7 " + inform + "-in FILE -print_certs -out certs.pem", ""}
}

func request(of content) error {
	return &formatError{"a certificate signing request", "", "name the file of the " + of.String() + " that the authority has made from it"}
}

func swapped(of content, is string) error {
	advice := "name the file of the " + of.String()
	if of != authorities {
		advice += "; Cert and Key may be swapped"
	}
	return &formatError{is + " and no " + of.String(), "", advice}
}

// checkBlocks returns a *formatError if no complete PEM block is usable.
func checkBlocks(blocks []*pem.Block, of content) error {
	var unusable error
	for _, b := range blocks {
		isKey := strings.HasSuffix(b.Type, "PRIVATE KEY")
		var is error
		switch {
		case b.Type == "ENCRYPTED PRIVATE KEY" && of == privateKey, strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") && of == privateKey:
			return pkcs8Encrypted()
		case b.Type == "OPENSSH PRIVATE KEY" && of == privateKey:
			is = &formatError{"a key of OpenSSH", "ssh-keygen -p -N '' -m PKCS8 -f FILE", ""}
		case isKey && of == privateKey, b.Type == "CERTIFICATE" && of != privateKey:
			return nil
		case b.Type == "TRUSTED CERTIFICATE" && of != privateKey:
			is = &formatError{"a trusted certificate of OpenSSL", "openssl x509 -in FILE -out cert.pem", ""}
		case b.Type == "PKCS7" || b.Type == "CMS":
			is = pkcs7(of, "")
		case b.Type == "CERTIFICATE REQUEST" || b.Type == "NEW CERTIFICATE REQUEST":
			is = request(of)
		case isKey:
			is = swapped(of, "a private key")
		case b.Type == "CERTIFICATE":
			is = swapped(of, "a certificate")
		case strings.HasSuffix(b.Type, "PUBLIC KEY"):
			is = &formatError{"a public key", "", "name the file of the " + of.String()}
		default:
			is = &formatError{"a PEM file without a " + of.String(), "", "name the file that has one"}
		}
		if unusable == nil {
			unusable = is
		}
	}
	return unusable
}

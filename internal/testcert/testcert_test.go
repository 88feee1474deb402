package testcert

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	trusted, untrusted := NewAuthority(t, "trusted"), NewAuthority(t, "untrusted")
	for _, tt := range []struct {
		by   *Authority
		end  time.Duration
		want any
	}{
		{trusted, time.Hour, nil},
		{trusted, -time.Minute, new(x509.CertificateInvalidError)},
		{untrusted, time.Hour, new(x509.UnknownAuthorityError)},
	} {
		leaf := tt.by.Issue(t, "server.test", tt.end).TLS(t).Leaf
		_, err := leaf.Verify(x509.VerifyOptions{Roots: trusted.Pool(), DNSName: "server.test"})
		if tt.want == nil && err != nil || tt.want != nil && !errors.As(err, tt.want) {
			t.Errorf("%v: %v", tt.end, err)
		}
	}
	if !x509.NewCertPool().AppendCertsFromPEM(trusted.PEM()) {
		t.Error("the authority's PEM is no certificate")
	}
}

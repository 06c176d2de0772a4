package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"coord/internal/zoocfg"
)

// clientTLS makes the TLS of clients of PEM files as ZooKeeper has them: the key store
// holds the certificates and the key, the trust store the authorities of clients. The
// files are read again when they have changed.
func clientTLS(t zoocfg.TLS, log *slog.Logger) (*tls.Config, error) {
	k := &clientKeys{files: t, log: log}
	now, err := k.load()
	if err != nil {
		return nil, err
	}
	k.good, k.looked = now, time.Now()
	base := now.config.Clone()
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.current(), nil }
	return base, nil
}

// clientKeys is what the files held when they fitted together last.
type clientKeys struct {
	files zoocfg.TLS
	log   *slog.Logger

	mu     sync.Mutex
	good   *loadedKeys // guarded by mu
	looked time.Time   // guarded by mu
}

type loadedKeys struct {
	raw    [][]byte
	config *tls.Config
}

// lookEvery is how often, at most, the files are read.
const lookEvery = time.Second

// current returns what handshakes use now.
func (k *clientKeys) current() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) < lookEvery {
		return k.good.config
	}
	k.looked = time.Now()
	switch now, err := k.load(); {
	case err != nil:
		k.log.Error("TLS files of clients do not fit together, the earlier ones stay in use", slog.Any("err", err))
	case !slices.EqualFunc(now.raw, k.good.raw, bytes.Equal):
		k.log.Info("TLS files of clients loaded", slog.String("cert", k.files.KeyStore))
		k.good = now
	}
	return k.good.config
}

// load reads the files.
func (k *clientKeys) load() (*loadedKeys, error) {
	pem, err := os.ReadFile(k.files.KeyStore)
	if err != nil {
		return nil, fmt.Errorf("ssl.keyStore.location: %w", err)
	}
	cert, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		return nil, fmt.Errorf("ssl.keyStore.location %s: %w", k.files.KeyStore, err)
	}
	now := &loadedKeys{raw: [][]byte{pem}, config: &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
		// A resumed session would stand on the certificates of an earlier day.
		SessionTicketsDisabled: true,
	}}
	if p := k.files.Protocols; len(p) > 0 {
		if !slices.Contains(p, "TLSv1.2") {
			now.config.MinVersion = tls.VersionTLS13
		}
		if !slices.Contains(p, "TLSv1.3") {
			now.config.MaxVersion = tls.VersionTLS12
		}
	}
	switch k.files.ClientAuth {
	case "none":
		return now, nil
	case "want":
		now.config.ClientAuth = tls.VerifyClientCertIfGiven
	default:
		now.config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	authorities, err := os.ReadFile(k.files.TrustStore)
	if err != nil {
		return nil, fmt.Errorf("ssl.trustStore.location: %w", err)
	}
	now.raw = append(now.raw, authorities)
	now.config.ClientCAs = x509.NewCertPool()
	if !now.config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("ssl.trustStore.location %s: it holds no certificate", k.files.TrustStore)
	}
	return now, nil
}

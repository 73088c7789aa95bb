package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The same facts stand in node/inside.sh and node/config.
const (
	nodeName  = "node-1"
	nodeIP    = "10.88.0.1"
	serviceIP = "10.96.0.1" // the first address of the Service range, which is the API server's
	apiServer = "https://127.0.0.1:6443"
	lifetime  = 10 * 365 * 24 * time.Hour
)

// writePKI fills dir with one CA, the serving pairs of the API server and the
// kubelet, the service-account key, and a kubeconfig for each component. A CA
// that is there stays, so that a cluster started again keeps its identity.
func writePKI(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(dir)
	if err != nil {
		return err
	}
	server := x509.Certificate{
		DNSNames: []string{"localhost", nodeName, "kubernetes", "kubernetes.default",
			"kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(serviceIP), net.ParseIP(nodeIP)},
	}
	for _, name := range []string{"apiserver", "kubelet-server"} {
		server.Subject = pkix.Name{CommonName: name}
		if _, err := ca.issue(dir, name, server); err != nil {
			return err
		}
	}
	for name, subject := range map[string]pkix.Name{
		// What the API server shows to the kubelet (logs, exec), and to aggregated API servers.
		"apiserver-kubelet-client": {CommonName: "apiserver-kubelet-client", Organization: []string{"system:masters"}},
		"front-proxy-client":       {CommonName: "front-proxy-client"},
		"admin":                    {CommonName: "admin", Organization: []string{"system:masters"}},
		"controller-manager":       {CommonName: "system:kube-controller-manager"},
		"scheduler":                {CommonName: "system:kube-scheduler"},
		"kube-proxy":               {CommonName: "system:kube-proxy"},
		"kubelet":                  {CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}},
	} {
		client, err := ca.issue(dir, name, x509.Certificate{Subject: subject})
		if err != nil {
			return err
		}
		if err := writeKubeconfig(filepath.Join(dir, name+".kubeconfig"), ca.certificatePEM, client); err != nil {
			return err
		}
	}
	if err := writeServiceAccountKey(filepath.Join(dir, "sa.key")); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "complete"), nil, 0o600)
}

// writeServingPair writes tls.crt and tls.key for a server of these names, and the
// ca.crt that signed it: what cert-manager does for a webhook. The CA's own key
// is not kept, so that it never signs anything else.
func writeServingPair(dir string, names []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(dir)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		return err
	}
	server, err := ca.issue(dir, "tls", x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names})
	if err != nil {
		return err
	}
	// The whole chain, which also serves as the roots where a program takes its own certificate for those.
	return os.WriteFile(filepath.Join(dir, "tls.crt"), slices.Concat(server.certificatePEM, ca.certificatePEM), 0o644)
}

// pair is a certificate and its key, both PEM.
type pair struct{ certificatePEM, keyPEM []byte }

type authority struct {
	pair
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(dir string) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test cluster"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	written, err := writePair(dir, "ca", der, key)
	return &authority{written, certificate, key}, err
}

// issue signs a certificate with template's subject and names.
func (ca *authority) issue(dir, name string, template x509.Certificate) (pair, error) {
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100)); err != nil {
		return pair{}, err
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(lifetime - time.Hour)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.certificate, key.Public(), ca.key)
	if err != nil {
		return pair{}, err
	}
	return writePair(dir, name, der, key)
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}

func writePair(dir, name string, certificate []byte, key *ecdsa.PrivateKey) (pair, error) {
	secret, err := keyPEM(key)
	if err != nil {
		return pair{}, err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	if err := os.WriteFile(filepath.Join(dir, name+".crt"), public, 0o644); err != nil {
		return pair{}, err
	}
	return pair{public, secret}, os.WriteFile(filepath.Join(dir, name+".key"), secret, 0o600)
}

func writeServiceAccountKey(file string) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	secret, err := keyPEM(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, secret, 0o600)
}

func writeKubeconfig(file string, ca []byte, client pair) error {
	type object = map[string]any
	config, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []object{{"name": "test", "cluster": object{"server": apiServer, "certificate-authority-data": ca}}},
		"users": []object{{"name": "test", "user": object{
			"client-certificate-data": client.certificatePEM, "client-key-data": client.keyPEM}}},
		"contexts": []object{{"name": "test", "context": object{"cluster": "test", "user": "test"}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, config, 0o600)
}

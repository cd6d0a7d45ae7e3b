package keyd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"postamt/internal/certs"
	"postamt/internal/config"
)

// Socket is where the server of a configuration is.
func Socket(c *config.Config) string { return filepath.Join(c.RunDir, "keyd") }

// Certificates loads those of the configuration, with their keys held by whom tls_keys says. For report see certs.Load.
func Certificates(c *config.Config, report func(what string, err error)) (*certs.Set, error) {
	if !Elsewhere(c) {
		return certs.Load(c.TLSCert, c.TLSKey, nil, report)
	}
	if c.TLSMinVersion < 0x0303 {
		return nil, errors.New("tls_min_version: keyd signs for TLS 1.2 and later only; see tls_keys")
	}
	return certs.Load(c.TLSCert, nil, NewClient(Socket(c)), report)
}

// Elsewhere says whether this process leaves its keys to keyd.
func Elsewhere(c *config.Config) bool { return elsewhere(c, unix.Geteuid()) }

// elsewhere decides tls_keys for a process of this uid. A key that is missing or damaged is not a reason to ask another
// process for it: that is a fault of the configuration, and said at the start.
func elsewhere(c *config.Config, uid int) bool {
	if c.TLSKeys != "auto" {
		return c.TLSKeys == "keyd"
	}
	if uid == 0 {
		return true
	}
	for _, name := range c.TLSKey {
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrPermission) {
			return true
		}
		if err == nil {
			f.Close()
		}
	}
	return false
}

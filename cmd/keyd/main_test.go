package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/internal/certs"
	"postamt/internal/keyd"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "keyd")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "keyd.bin")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// newKey writes a key and returns its public half.
func newKey(t *testing.T, name string) *ecdsa.PublicKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err == nil {
		err = os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &k.PublicKey
}

// system is a directory with a configuration.
type system struct {
	t   *testing.T
	dir string
	log *os.File
}

func newSystem(t *testing.T, conf string) *system {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &system{t: t, dir: dir}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.log.Close() })
	s.configure(conf)
	return s
}

func (s *system) configure(conf string) {
	s.t.Helper()
	name := filepath.Join(s.dir, "postamt.conf")
	err := os.WriteFile(name+".new", []byte("run_dir run\nkeyd_user\nkeyd_clients\n"+conf), 0o600)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// said is what the program wrote to its standard error.
func (s *system) said() string {
	b, _ := os.ReadFile(s.log.Name())
	return string(b)
}

func (s *system) command(arg ...string) *exec.Cmd {
	c := exec.Command(binary, append([]string{"-C", filepath.Join(s.dir, "postamt.conf")}, arg...)...)
	c.Stderr = s.log
	return c
}

// T07: a key that cannot be used stops the start, and is named.
func TestExitCodes(t *testing.T) {
	s := newSystem(t, "")
	newKey(t, filepath.Join(s.dir, "good"))
	os.WriteFile(filepath.Join(s.dir, "bad"), []byte("garbage"), 0o600)
	os.Mkdir(filepath.Join(s.dir, "dir"), 0o700)
	certs := "tls_cert a b c d\n"
	for name, c := range map[string]struct {
		conf string
		arg  []string
		code int
		says []string
	}{
		"bad flag":  {"", []string{"-frob"}, 64, []string{"usage:"}},
		"argument":  {"", []string{"x"}, 64, []string{"usage:"}},
		"bad key":   {"frobnicate yes\n", nil, 78, []string{"frobnicate"}},
		"bad files": {certs + "tls_key good bad dir none\n", nil, 78, []string{"/bad: no private key", "/dir: not a regular file", "/none: no such file"}},
		"no socket": {"run_dir good\n", nil, 78, []string{"run_dir"}},
		"old TLS":   {"tls_min_version 1.0\ntls_keys keyd\n", nil, 78, []string{"tls_min_version"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.configure(c.conf)
			s.log.Truncate(0)
			s.log.Seek(0, 0)
			cmd := s.command(c.arg...)
			err := cmd.Run()
			for _, w := range c.says {
				if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(s.said(), w) {
					t.Errorf("%v, want %d %q\n%s", err, c.code, w, s.said())
				}
			}
		})
	}
}

// HUP: another configuration, and keys that are in no file are forgotten; a bad one changes nothing. TERM ends it with 0.
func TestSignals(t *testing.T) {
	s := newSystem(t, "tls_cert a\ntls_key key\n")
	one := newKey(t, filepath.Join(s.dir, "key"))
	ready, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	c := s.command("-notify", "3")
	c.ExtraFiles = []*os.File{tell}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	tell.Close()
	ended := false
	defer func() {
		if !ended {
			c.Process.Kill()
			c.Wait()
		}
	}()
	if n, _ := ready.Read(make([]byte, 1)); n != 1 {
		t.Fatal("not ready")
	}
	client := keyd.NewClient(filepath.Join(s.dir, "run", "keyd"))
	defer client.Close()
	await := func(what string, k *ecdsa.PublicKey, want error) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			err := client.Has(k)
			if err == want || want != nil && err != nil && strings.HasSuffix(err.Error(), want.Error()) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %v, want %v", what, err, want)
			}
		}
	}
	await("at first", one, nil)
	two := newKey(t, filepath.Join(s.dir, "key"))
	await("renewed", two, nil)
	await("renewed", one, nil)
	c.Process.Signal(syscall.SIGHUP)
	await("the old key after HUP", one, certs.ErrNoKey)
	await("after HUP", two, nil)
	s.configure("tls_cert a\ntls_key none\n")
	c.Process.Signal(syscall.SIGHUP)
	for end := time.Now().Add(10 * time.Second); !strings.Contains(s.said(), "none: no such file"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the bad configuration is not in the log:\n%s", s.said())
		}
	}
	await("after HUP with a bad configuration", two, nil)
	three := newKey(t, filepath.Join(s.dir, "other"))
	s.configure("tls_cert a\ntls_key other\n")
	c.Process.Signal(syscall.SIGHUP)
	await("after HUP with another configuration", three, nil)
	await("after HUP with another configuration", two, certs.ErrNoKey)
	c.Process.Signal(syscall.SIGTERM)
	ended = true
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%s", err, s.said())
	}
}

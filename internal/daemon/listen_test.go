package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
)

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s") // the directory is made
	l, err := ListenUnix(path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	// Somebody answers: his socket is left alone.
	if _, err := ListenUnix(path, 0); !errors.Is(err, ErrInUse) && err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("second listener: %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first one does not answer: %v", err)
	} else {
		c.Close()
	}
	// He died without removing it.
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l, err = ListenUnix(path, 0)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	l.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("a closed listener leaves its socket")
	}
	// What is not a socket is never removed, nor is what a symlink points to.
	for _, make := range []func() error{
		func() error { return os.WriteFile(path, []byte("precious"), 0o644) },
		func() error { return os.Mkdir(path, 0o755) },
		func() error { return unix.Mkfifo(path, 0o644) },
		func() error { return os.Symlink("/nonexistent", path) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		if _, err := ListenUnix(path, 0); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("%v: %v", before.Mode(), err)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%v was replaced", before.Mode())
		}
		os.Remove(path)
	}
}

func TestListenDatagram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queued")
	c, err := ListenDatagram(path, 0o622)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenDatagram(path, 0); err == nil {
		t.Error("two listeners")
	}
	c.Close() // leaves the name, as a killed process does
	if c, err = ListenDatagram(path, 0); err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	c.Close()
}

// Of many that start on a stale socket at once, exactly one gets it, and it can be reached.
func TestListenUnixRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 20 {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		var mu sync.Mutex
		var got []*net.UnixListener
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if l, err := ListenUnix(path, 0o600); err == nil {
					mu.Lock()
					got = append(got, l)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(got) != 1 {
			t.Fatalf("%d listeners", len(got))
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		got[0].Close()
	}
}

func TestOpenOwn(t *testing.T) {
	p := &Process{}
	dir := t.TempDir()
	s, err := p.Open(Want{OwnOnly: true, Own: []config.Listener{
		{Network: "tcp4", Address: "127.0.0.1:0", Kind: "mx"},
		{Network: "unix", Address: filepath.Join(dir, "s"), Kind: "local"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if s.How != "own" || len(s.Listeners) != 2 || !strings.HasSuffix(s.Addrs(), "=mx "+filepath.Join(dir, "s")+"=local") {
		t.Errorf("%+v %s", s, s.Addrs())
	}
	port := s.Listeners[0].Addr().String()
	// All or nothing.
	_, err = p.Open(Want{OwnOnly: true, Own: []config.Listener{
		{Network: "unix", Address: filepath.Join(dir, "t"), Kind: "local"},
		{Network: "tcp4", Address: port, Kind: "mx"},
	}})
	if err == nil || !strings.Contains(err.Error(), "listen "+port+": address already in use") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "t")); err == nil {
		t.Error("the first listener was left open")
	}
	s.Close()
	if _, err := p.Open(Want{OwnOnly: true}); err == nil {
		t.Error("nothing to listen on, and no error")
	}
	// An address that this machine has not is an error when somebody wrote it down.
	if _, err := p.Open(Want{OwnOnly: true, Own: []config.Listener{{Network: "tcp4", Address: "192.0.2.1:0", Kind: "mx"}}}); err == nil {
		t.Error("listening on an address of somebody else")
	}
}

func TestKindOf(t *testing.T) {
	w := Want{Kinds: []string{"mx", "submission", "local"}, Kind: "mx", Own: []config.Listener{
		{Network: "tcp4", Address: "0.0.0.0:587", Kind: "submission"},
		{Network: "unix", Address: "/run/s", Kind: "local"},
	}}
	for _, c := range []struct{ name, address, want string }{
		{"submission", "0.0.0.0:25", "submission"},
		{"smtpd-local.socket", "0.0.0.0:25", "local"},
		{"smtpd.socket", "[::]:587", "submission"},
		{"unknown", "/run/s", "local"},
		{"unknown", "@", "mx"},
		{"", "", "mx"},
	} {
		if got := kindOf(w, c.name, c.address); got != c.want {
			t.Errorf("%q at %q is %s, want %s", c.name, c.address, got, c.want)
		}
	}
}

func TestPeerCred(t *testing.T) {
	l, err := ListenUnix(filepath.Join(t.TempDir(), "s"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if cred, err := PeerCred(s); err != nil || cred != (Cred{os.Getuid(), os.Getgid(), os.Getpid()}) {
		t.Errorf("%+v %v", cred, err)
	}
	if ip := RemoteIP(s); ip.IsValid() {
		t.Errorf("a local socket has the address %v", ip)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, err := PeerCred(a); err == nil {
		t.Error("a pipe has credentials")
	}
}

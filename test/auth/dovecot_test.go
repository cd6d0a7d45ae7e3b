package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/internal/authwire"
	"postamt/test/peers"
	"postamt/test/proc"
)

func request(mechanism string) *authwire.Request {
	return &authwire.Request{Mechanism: mechanism, Service: "smtp", NoLogin: true, Security: authwire.TLS}
}

// step is one Next with a limit.
func step(t *testing.T, x authwire.Exchange, response []byte) authwire.Reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return x.Next(ctx, response)
}

// Our Client asks Debian's Dovecot.
func TestClientAsksDovecot(t *testing.T) {
	s := peers.Dovecot(t, peers.Config{})
	client := &authwire.Client{Path: s.Auth}
	t.Cleanup(func() { client.Close() })

	offered, err := client.Mechanisms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []authwire.Mechanism{{Name: "PLAIN", Flags: authwire.Plaintext}, {Name: "LOGIN", Flags: authwire.Plaintext},
		{Name: "CRAM-MD5", Flags: authwire.Dictionary | authwire.Active}, {Name: "SCRAM-SHA-256", Flags: authwire.MutualAuth}} {
		if !slices.Contains(offered, want) {
			t.Errorf("%+v is not offered: %+v", want, offered)
		}
	}

	t.Run("PLAIN", func(t *testing.T) {
		x := client.Begin(t.Context(), request("PLAIN"))
		defer x.End()
		if r := step(t, x, []byte("\x00alice\x00secret")); r.Status != authwire.OK || r.User != "alice" || r.Err != nil {
			t.Errorf("right password: %+v", r)
		}
		x = client.Begin(t.Context(), request("PLAIN"))
		defer x.End()
		if r := step(t, x, []byte("\x00alice\x00wrong")); r.Status != authwire.Failed || r.Temporary() || r.User != "alice" {
			t.Errorf("wrong password: %+v", r)
		}
	})
	t.Run("PLAIN without initial response", func(t *testing.T) {
		x := client.Begin(t.Context(), request("PLAIN"))
		defer x.End()
		if r := step(t, x, nil); r.Status != authwire.Continue || len(r.Data) != 0 {
			t.Fatalf("no initial response: %+v", r)
		}
		if r := step(t, x, []byte("\x00bob\x00secret")); r.Status != authwire.OK || r.User != "bob" {
			t.Errorf("right password: %+v", r)
		}
	})
	t.Run("LOGIN", func(t *testing.T) {
		x := client.Begin(t.Context(), request("LOGIN"))
		defer x.End()
		step(t, x, nil)
		if r := step(t, x, []byte("alice")); r.Status != authwire.Continue || !strings.HasPrefix(string(r.Data), "Password") {
			t.Fatalf("after the name: %+v", r)
		}
		if r := step(t, x, []byte("secret")); r.Status != authwire.OK {
			t.Errorf("right password: %+v", r)
		}
	})
	// Four messages, the last of which proves the server: Dovecot sends it with OK, and we see it as a challenge.
	t.Run("SCRAM-SHA-256", func(t *testing.T) {
		x := client.Begin(t.Context(), request("SCRAM-SHA-256"))
		defer x.End()
		const bare = "n=alice,r=fyko+d2lbbFgONRv9qkxdawL"
		r := step(t, x, []byte("n,,"+bare))
		if r.Status != authwire.Continue {
			t.Fatalf("client-first: %+v", r)
		}
		final, proof := scram(t, bare, string(r.Data), "secret")
		r = step(t, x, []byte(final))
		if r.Status != authwire.Continue || string(r.Data) != proof {
			t.Fatalf("client-final: %+v, want %q", r, proof)
		}
		if r = step(t, x, []byte{}); r.Status != authwire.OK || r.User != "alice" {
			t.Errorf("last: %+v", r)
		}
	})
	t.Run("unknown mechanism", func(t *testing.T) {
		// Dovecot answers by cutting the connection.
		x := client.Begin(t.Context(), request("NO-SUCH"))
		defer x.End()
		if r := step(t, x, []byte("x")); !r.Temporary() || !errors.Is(r.Err, authwire.ErrUnavailable) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a hundred at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				password := "secret"
				if i%2 == 1 {
					password = "wrong"
				}
				x := client.Begin(t.Context(), request("PLAIN"))
				defer x.End()
				r := step(t, x, []byte("\x00alice\x00"+password))
				if (r.Status == authwire.OK) != (i%2 == 0) || r.Temporary() {
					t.Errorf("%d with %s: %+v", i, password, r)
				}
			})
		}
		wg.Wait()
	})
	// A01: Dovecot would cut the connection, and with it everybody's exchanges.
	t.Run("a response that is too long", func(t *testing.T) {
		other := client.Begin(t.Context(), request("LOGIN"))
		defer other.End()
		step(t, other, nil)
		x := client.Begin(t.Context(), request("PLAIN"))
		defer x.End()
		if r := step(t, x, make([]byte, 20000)); r.Status != authwire.Failed || r.Err == nil {
			t.Errorf("%+v", r)
		}
		step(t, other, []byte("alice"))
		if r := step(t, other, []byte("secret")); r.Status != authwire.OK {
			t.Errorf("the other exchange: %+v", r)
		}
	})
}

// scram computes the last message of a client and the proof a server must give (RFC 5802 section 3).
func scram(t *testing.T, bare, first, password string) (final, proof string) {
	var nonce, salt string
	var rounds int
	for _, f := range strings.Split(first, ",") {
		switch f[:2] {
		case "r=":
			nonce = f[2:]
		case "s=":
			salt = f[2:]
		case "i=":
			rounds, _ = strconv.Atoi(f[2:])
		}
	}
	saltBytes, err := base64.StdEncoding.DecodeString(salt)
	if err != nil || nonce == "" || rounds == 0 {
		t.Fatalf("server-first: %q", first)
	}
	salted, err := pbkdf2.Key(sha256.New, password, saltBytes, rounds, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	final = "c=biws,r=" + nonce
	auth := bare + "," + first + "," + final
	signature := mac(stored[:], auth)
	for i := range key {
		key[i] ^= signature[i]
	}
	return final + ",p=" + b64(string(key)), "v=" + b64(string(mac(mac(salted, "Server Key"), auth)))
}

// Our UserClient asks Debian's Dovecot, and collects a login there.
func TestUserClientAsksDovecot(t *testing.T) {
	s := peers.Dovecot(t, peers.Config{Users: []string{"alice", "bob", "first.last-x@example.org"}})
	users := &authwire.UserClient{Path: s.Userdb}
	t.Cleanup(func() { users.Close() })
	for _, name := range []string{"alice", "first.last-x@example.org"} {
		u, err := users.Lookup(t.Context(), &authwire.Query{User: name, Service: "lmtp"})
		home, _ := u.Fields.Get("home")
		uid, _ := u.Fields.Get("uid")
		if err != nil || u.Name != name || home != filepath.Join(s.Maildirs, name) || uid != "65534" {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
	}
	if _, err := users.Lookup(t.Context(), &authwire.Query{User: "carol", Service: "lmtp"}); !errors.Is(err, authwire.ErrNotFound) {
		t.Errorf("carol: %v", err)
	}
	var names []string
	err := users.List(t.Context(), &authwire.Query{Service: "doveadm"}, func(name string) error {
		names = append(names, name)
		return nil
	})
	slices.Sort(names)
	if want := []string{"alice", "bob", "first.last-x@example.org"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("list: %q, %v", names, err)
	}

	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			name := []string{"alice", "nobody-by-that-name"}[i%2]
			_, err := users.Lookup(t.Context(), &authwire.Query{User: name, Service: "lmtp"})
			if (err == nil) != (i%2 == 0) || errors.Is(err, authwire.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()

	master := &authwire.UserClient{Path: s.Master}
	t.Cleanup(func() { master.Close() })
	if u, err := master.Pass(t.Context(), &authwire.Query{User: "bob", Service: "imap"}); err != nil || u.Name != "bob" {
		t.Errorf("pass: %+v, %v", u, err)
	}

	// The login socket allows, the master socket gives out, once.
	login := &authwire.Client{Path: s.Login}
	t.Cleanup(func() { login.Close() })
	r := request("PLAIN")
	r.Service, r.NoLogin = "imap", false
	x := login.Begin(t.Context(), r)
	defer x.End()
	reply := step(t, x, []byte("\x00alice\x00secret"))
	if reply.Status != authwire.OK || reply.Ticket == nil {
		t.Fatalf("login: %+v", reply)
	}
	forged := *reply.Ticket
	forged.Cookie = strings.Repeat("0", 32)
	if u, err := master.Collect(t.Context(), forged, nil); err == nil {
		t.Errorf("a forged ticket gives %+v", u)
	}
	u, err := master.Collect(t.Context(), *reply.Ticket, nil)
	if home, _ := u.Fields.Get("home"); err != nil || u.Name != "alice" || home == "" {
		t.Errorf("collect: %+v, %v", u, err)
	}
	if u, err := master.Collect(t.Context(), *reply.Ticket, nil); err == nil {
		t.Errorf("the second time a ticket gives %+v", u)
	}

	// The wrong kind of socket is told from a dead one.
	wrong := &authwire.UserClient{Path: s.Auth}
	t.Cleanup(func() { wrong.Close() })
	if _, err := wrong.Lookup(t.Context(), &authwire.Query{User: "alice", Service: "lmtp"}); err == nil || !strings.Contains(err.Error(), "client socket") {
		t.Errorf("look-up on a client socket: %v", err)
	}
	wrongClient := &authwire.Client{Path: s.Userdb, DialLimit: 300 * time.Millisecond}
	t.Cleanup(func() { wrongClient.Close() })
	if _, err := wrongClient.Mechanisms(t.Context()); !errors.Is(err, authwire.ErrUnavailable) {
		t.Errorf("authentication on a user socket: %v", err)
	}
}

// Dovecot's authentication process is killed: what is under way is "later", and what comes next is answered by its successor.
func TestDovecotDies(t *testing.T) {
	s := peers.Dovecot(t, peers.Config{})
	client, users := &authwire.Client{Path: s.Auth}, &authwire.UserClient{Path: s.Userdb}
	t.Cleanup(func() { client.Close(); users.Close() })
	lookup := func() error {
		_, err := users.Lookup(t.Context(), &authwire.Query{User: "alice", Service: "lmtp"})
		return err
	}
	x := client.Begin(t.Context(), request("LOGIN"))
	defer x.End()
	step(t, x, nil)
	if err := lookup(); err != nil {
		t.Fatal(err)
	}

	kill(t, s, "auth")
	if r := step(t, x, []byte("alice")); !r.Temporary() || !errors.Is(r.Err, authwire.ErrUnavailable) {
		t.Errorf("an exchange whose server died: %+v", r)
	}
	// The master starts another one. Both clients find their connections gone and make new ones.
	if err := lookup(); err != nil {
		t.Errorf("look-up after the death: %v", err)
	}
	x = client.Begin(t.Context(), request("PLAIN"))
	defer x.End()
	if r := step(t, x, []byte("\x00alice\x00secret")); r.Status != authwire.OK {
		t.Errorf("login after the death: %+v", r)
	}

	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	x = client.Begin(t.Context(), request("PLAIN"))
	defer x.End()
	if r := step(t, x, []byte("\x00alice\x00secret")); !r.Temporary() || !errors.Is(r.Err, authwire.ErrUnavailable) {
		t.Errorf("login without any server: %+v", r)
	}
	if err := lookup(); !errors.Is(err, authwire.ErrUnavailable) {
		t.Errorf("look-up without any server: %v", err)
	}
	if known, err := client.Mechanisms(t.Context()); err == nil || len(known) == 0 {
		t.Errorf("mechanisms without any server: %v, %v", known, err)
	}
}

// kill ends the peer's process of that name, and waits until it is gone.
func kill(t *testing.T, s *peers.DovecotServer, name string) {
	for _, pid := range proc.Group(s.Pid()) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil || string(bytes.TrimSpace(comm)) != name {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); slices.Contains(proc.Group(s.Pid()), pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is still there", name)
			}
		}
		return
	}
	t.Fatalf("no process %s in Dovecot", name)
}

// doveadm, Dovecot's own tool, asks our servers.
func TestDoveadmAsks(t *testing.T) {
	s := peers.Dovecot(t, peers.Config{})
	m := &memory{passwords: map[string]string{"alice": "secret"}}
	a := startAuthd(t, m)
	userPath := filepath.Join(filepath.Dir(a.path), "users")
	l, err := net.Listen("unix", userPath)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { (&authwire.UserServer{Users: m}).ServeConn(ctx, c) })
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })

	for _, c := range []struct {
		want string
		args []string
	}{
		{"auth succeeded", []string{"auth", "test", "-a", a.path, "alice", "secret"}},
		{"auth failed", []string{"auth", "test", "-a", a.path, "alice", "wrong"}},
		{"home      : /home/alice", []string{"auth", "lookup", "-a", userPath, "alice"}},
		{"doesn't exist", []string{"auth", "lookup", "-a", userPath, "bob"}},
		{"home\t/home/alice", []string{"user", "-a", userPath, "alice"}},
		{"alice\n", []string{"user", "-a", userPath, "*"}},
	} {
		out, err := s.Doveadm(t, c.args...)
		if !strings.Contains(out, c.want) {
			t.Errorf("doveadm %q: %v\n%s", c.args, err, out)
		}
	}
}

func (m *memory) Lookup(_ context.Context, q *authwire.Query) (authwire.User, error) {
	if _, ok := m.passwords[q.User]; !ok {
		return authwire.User{}, authwire.ErrNotFound
	}
	return authwire.User{Name: q.User, Fields: authwire.Fields{{Name: "uid", Value: "65534"}, {Name: "gid", Value: "65534"}, {Name: "home", Value: "/home/" + q.User}}}, nil
}

func (m *memory) Pass(ctx context.Context, q *authwire.Query) (authwire.User, error) {
	return m.Lookup(ctx, q)
}

func (m *memory) List(_ context.Context, _ *authwire.Query, each func(string) error) error {
	for name := range m.passwords {
		if err := each(name); err != nil {
			return err
		}
	}
	return nil
}

package sasl

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"postamt/internal/password"
)

// client is the other side of SCRAM, written from RFC 5802 section 3 without any of ours.
type client struct {
	user, password string
	authzid        string
	flag           string // "n", "y", "p=type"
	binding        string
	extensions     string
	nonce          string // in the final message, instead of the server's

	bare       string
	salt       []byte
	iterations int
	signature  string // that the server must send
}

func (c *client) header() string {
	if c.authzid != "" {
		return c.flag + ",a=" + c.quote(c.authzid) + ","
	}
	return c.flag + ",,"
}

func (c *client) quote(s string) string {
	return strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s)
}

func (c *client) first() string {
	c.bare = "n=" + c.quote(c.user) + ",r=rOprNGfwEbeRWgbNEkqO" + c.extensions
	return c.header() + c.bare
}

func (c *client) final(mechanism, server string) string {
	new, size := sha256.New, sha256.Size
	if strings.HasPrefix(mechanism, "SCRAM-SHA-1") {
		new, size = sha1.New, sha1.Size
	}
	f := strings.Split(server, ",")
	c.salt, _ = base64.StdEncoding.DecodeString(f[1][2:])
	c.iterations, _ = strconv.Atoi(f[2][2:])
	salted, _ := pbkdf2.Key(new, c.password, c.salt, c.iterations, size)
	mac := func(key []byte, text string) []byte {
		m := hmac.New(func() hash.Hash { return new() }, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	clientKey := mac(salted, "Client Key")
	h := new()
	h.Write(clientKey)
	if c.nonce != "" {
		f[0] = "r=" + c.nonce
	}
	without := "c=" + b64([]byte(c.header()+c.binding)) + "," + f[0] + c.extensions
	auth := c.bare + "," + server + "," + without
	proof := mac(h.Sum(nil), auth)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	c.signature = "v=" + b64(mac(mac(salted, "Server Key"), auth))
	return without + ",p=" + b64(proof)
}

func (c *client) run(t rapid.TB, mechanism string, o Options) (*Exchange, string, bool, error) {
	x, err := New(mechanism, o)
	if err != nil {
		t.Fatal(err)
	}
	server, done, err := x.Next(context.Background(), []byte(c.first()))
	if done || err != nil {
		return x, "", done, err
	}
	last, done, err := x.Next(context.Background(), []byte(c.final(mechanism, string(server))))
	return x, string(last), done, err
}

// The messages of RFC 5802 section 5 and RFC 7677 section 3. The nonces of the examples are put in, for ours are longer.
func TestSCRAMExamples(t *testing.T) {
	for _, c := range []struct {
		hash                         password.SCRAMHash
		bare, server, final, success string
		stored                       string
	}{
		{password.SHA1, "n=user,r=fyko+d2lbbFgONRv9qkxdawL", "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
			"{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE="},
		{password.SHA256, "n=user,r=rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
			people["dora"]},
	} {
		w := newWatch(t)
		w.Find = func(context.Context, string) (password.Stored, error) { return password.Parse(c.stored) }
		o := options(w)
		o.PlusOffered = false
		x := begin(t, c.hash.String(), o)
		s := &scramExchange{Exchange: x, hash: c.hash}
		challenge, next, err := s.clientFirst(context.Background(), []byte("n,,"+c.bare))
		_, nonce, _ := strings.Cut(c.bare, "r=")
		_, rest, _ := strings.Cut(c.server, ",")
		if err != nil || !strings.HasPrefix(string(challenge), "r="+nonce) || !strings.HasSuffix(string(challenge), ","+rest) {
			t.Fatalf("%s: %q, %v", c.hash, challenge, err)
		}
		s.nonce = strings.TrimPrefix(strings.TrimSuffix(c.server, ","+rest), "r=")
		s.first = c.bare + "," + c.server
		last, next, err := next(context.Background(), []byte(c.final))
		if err != nil || next != nil || string(last) != c.success || x.Identity().Authenticated != "user" {
			t.Errorf("%s: %q, %v", c.hash, last, err)
		}
	}
}

func TestSCRAM(t *testing.T) {
	for _, c := range []struct {
		mechanism string
		client    client
		plus      bool // offered
		want      error
	}{
		{"SCRAM-SHA-256", client{user: "alice", password: "tanstaaf", flag: "n"}, true, nil},
		{"SCRAM-SHA-256", client{user: "dora", password: "pencil", flag: "n"}, true, nil},
		{"SCRAM-SHA-1", client{user: "ALICE", password: "tanstaaf", flag: "n"}, false, nil},
		{"SCRAM-SHA-1", client{user: "alice", password: "tanstaaf", flag: "y"}, false, nil},
		{"SCRAM-SHA-256", client{user: "bob", password: "hunter=2,", flag: "n", extensions: ",x=1,y=a=b"}, false, nil},
		{"SCRAM-SHA-256", client{user: "alice", authzid: "Alice", password: "tanstaaf", flag: "n"}, true, nil},
		{"SCRAM-SHA-256-PLUS", client{user: "alice", password: "tanstaaf", flag: "p=tls-exporter", binding: "exported"}, true, nil},
		{"SCRAM-SHA-1-PLUS", client{user: "alice", password: "tanstaaf", flag: "p=tls-server-end-point", binding: "certificate"}, true, nil},
		{"SCRAM-SHA-256-PLUS", client{user: "dora", password: "pencil", flag: "p=tls-exporter", binding: "exported"}, true, nil},

		{"SCRAM-SHA-256", client{user: "alice", authzid: "bob", password: "tanstaaf", flag: "n"}, true, ErrNotAuthorized}, // A01
		{"SCRAM-SHA-256", client{user: "alice", authzid: "bob", password: "wrong", flag: "n"}, true, ErrCredentials},
		{"SCRAM-SHA-256", client{user: "alice", authzid: "../b", password: "tanstaaf", flag: "n"}, true, ErrCredentials},
		{"SCRAM-SHA-1", client{user: "dora", password: "pencil", flag: "n"}, true, ErrCredentials}, // has keys of the other hash
		{"SCRAM-SHA-256", client{user: "carol", password: "secret", flag: "n"}, true, ErrCredentials},
		{"SCRAM-SHA-256", client{user: "down", password: "x", flag: "n"}, true, ErrUnavailable},
		// RFC 5802 section 6: the list of mechanisms was changed on its way to the client.
		{"SCRAM-SHA-256", client{user: "alice", password: "tanstaaf", flag: "y"}, true, ErrCredentials},
		{"SCRAM-SHA-256-PLUS", client{user: "alice", password: "tanstaaf", flag: "y"}, true, ErrCredentials},
		{"SCRAM-SHA-256-PLUS", client{user: "alice", password: "tanstaaf", flag: "n"}, true, ErrMalformed},
		{"SCRAM-SHA-256", client{user: "alice", password: "tanstaaf", flag: "p=tls-exporter", binding: "exported"}, true, ErrMalformed},
		// Somebody in between has two channels.
		{"SCRAM-SHA-256-PLUS", client{user: "alice", password: "tanstaaf", flag: "p=tls-exporter", binding: "other"}, true, ErrCredentials},
		{"SCRAM-SHA-256-PLUS", client{user: "alice", password: "tanstaaf", flag: "p=tls-exporter"}, true, ErrCredentials},
		{"SCRAM-SHA-256-PLUS", client{user: "alice", password: "tanstaaf", flag: "p=tls-exporter", binding: "certificate"}, true, ErrCredentials},
		{"SCRAM-SHA-256-PLUS", client{user: "alice", password: "tanstaaf", flag: "p=tls-unique", binding: "exported"}, true, ErrCredentials},
		{"SCRAM-SHA-256", client{user: "alice", password: "tanstaaf", flag: "n", binding: "exported"}, true, ErrCredentials},
		// RFC 5802 section 5.1, r: the same nonce in the second message.
		{"SCRAM-SHA-256", client{user: "alice", password: "tanstaaf", flag: "n", nonce: "rOprNGfwEbeRWgbNEkqO"}, true, ErrCredentials},
	} {
		o := options(newWatch(t))
		o.PlusOffered = c.plus
		x, last, done, err := c.client.run(t, c.mechanism, o)
		if done != (c.want == nil) || !errors.Is(err, c.want) {
			t.Errorf("%s %+v: %v, %v", c.mechanism, c.client, done, err)
		}
		if done && (last != c.client.signature || x.Identity().Authenticated != strings.ToLower(c.client.user)) {
			t.Errorf("%s %+v: %q, %v", c.mechanism, c.client, last, x.Identity())
		}
	}
}

// First messages that are none.
func TestSCRAMFirst(t *testing.T) {
	o := options(newWatch(t))
	for _, first := range []string{"", "n", "n,", "n,,", ",,n=alice,r=x", "q,,n=alice,r=x", "nn,,n=alice,r=x", "p=,,n=alice,r=x", "n,alice,n=alice,r=x", "n,a=,n=alice,r=x", "n,a=a=b,n=alice,r=x",
		"n,,r=x,n=alice", "n,,n=alice", "n,,n=,r=x", "n,,n=alice,r=", "n,,n=a=l,r=x", "n,,n=a=2c,r=x", "n,,n=al\x00ice,r=x", "n,,n=\xff,r=x", "n,,m=ext,n=alice,r=x", "n,,n=alice,m=ext,r=x", "n,,n=alice,r=x,m=ext",
		"n,,n=alice,r=x y", "n,,n=alice,r=\x7f", "n,,n=alice,r=x,", "n,,n=alice,r=x,1=x", "n,,n=alice,r=x,y", "N,,n=alice,r=x", "n,,n=alice,r=" + strings.Repeat("x", maxNonce+1),
		"n,,n=alice,r=x" + strings.Repeat(",x=y", 200)} {
		if _, done, err := run(t, begin(t, "SCRAM-SHA-256", o), first); done || !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", first, err)
		}
	}
}

// Our half of the nonce differs each time, so that no final message is good twice.
func TestSCRAMReplay(t *testing.T) {
	o := options(newWatch(t))
	c := client{user: "alice", password: "tanstaaf", flag: "n"}
	x := begin(t, "SCRAM-SHA-256", o)
	server, _, _ := x.Next(context.Background(), []byte(c.first()))
	final := c.final("SCRAM-SHA-256", string(server))
	if _, done, err := x.Next(context.Background(), []byte(final)); !done {
		t.Fatal(err)
	}
	if _, done, err := run(t, begin(t, "SCRAM-SHA-256", o), c.first(), final); done || !errors.Is(err, ErrCredentials) {
		t.Errorf("the same messages log in again: %v", err)
	}
}

// Whoever has the password gets in, whatever the name and the password are made of; with one octet of either message changed, nobody does.
func TestSCRAMModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mechanism := rapid.SampledFrom([]string{"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"}).Draw(rt, "mechanism")
		c := client{flag: "n",
			user:     rapid.StringMatching(`[a-z=,é漢]{1,12}`).Draw(rt, "user"),
			password: rapid.StringMatching(`[ -~]{1,20}`).Draw(rt, "password")}
		if strings.HasSuffix(mechanism, "-PLUS") {
			c.flag, c.binding = "p=tls-exporter", "exported"
		}
		w := newWatch(t)
		w.Find = func(_ context.Context, user string) (password.Stored, error) {
			if user != c.user {
				return password.Stored{}, ErrCredentials
			}
			return password.Parse("{PLAIN}" + c.password)
		}
		o := options(w)
		o.Canonical = func(s string) (string, error) { return s, nil }
		x, last, done, err := c.run(rt, mechanism, o)
		if !done || last != c.signature || x.Identity().Authenticated != c.user {
			rt.Fatalf("%v, %q", err, last)
		}

		first := []byte(c.first())
		changeFirst := rapid.Bool().Draw(rt, "first")
		change := func(b []byte) {
			i := rapid.IntRange(0, len(b)-1).Draw(rt, "where")
			b[i] ^= byte(rapid.IntRange(1, 255).Draw(rt, "how"))
		}
		if changeFirst {
			change(first)
		}
		x, _ = New(mechanism, o)
		server, done, err := x.Next(context.Background(), first)
		if err == nil {
			final := []byte(c.final(mechanism, string(server)))
			if !changeFirst {
				change(final)
			}
			_, done, err = x.Next(context.Background(), final)
		}
		if done || err == nil {
			rt.Fatalf("logged in with a message that was changed: %q", first)
		}
	})
}

// Nothing that a stranger sends logs him in, whatever the mechanism; every exchange ends within four steps; no error is without a class.
func FuzzExchange(f *testing.F) {
	all := Mechanisms()
	for i := range all {
		for _, s := range [][2]string{{"\x00tim\x00x", ""}, {"tim", "x"}, {"", "tim 00000000000000000000000000000000"}, {"n,,n=alice,r=abc", "c=biws,r=abc,p=AAAA"},
			{"p=tls-exporter,a=x,n=alice,r=abc", "c=biws,r=abc,p=AAAA"}, {"n,a=alice,\x01auth=Bearer x\x01\x01", "\x01"}, {"user=alice\x01auth=Bearer x\x01\x01", ""}, {"bob", ""}} {
			f.Add(uint8(i), true, []byte(s[0]), []byte(s[1]))
			f.Add(uint8(i), false, []byte(s[0]), []byte(s[1]))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, initial bool, first, second []byte) {
		m := all[int(which)%len(all)]
		o := options(newWatch(t))
		o.Credentials, o.External = nobody{}, "someone"
		x := begin(t, m.Name, o)
		responses := [][]byte{first, second, second, second}
		if !initial {
			responses = [][]byte{nil, first, second, second}
		}
		for i, r := range responses {
			c, done, err := x.Next(context.Background(), r)
			if done {
				if m.Name == "EXTERNAL" && x.Identity() == (Identity{"someone", "someone"}) {
					return
				}
				// The one token that is good, if the fuzzer finds it.
				if x.Identity().Authenticated == "alice" && strings.Contains(string(first)+string(second), "good") {
					return
				}
				t.Fatalf("%s: %q logged in as %v", m.Name, responses[:i+1], x.Identity())
			}
			if err != nil {
				known := 0
				for _, class := range []error{ErrCredentials, ErrNotAuthorized, ErrMalformed, ErrUnavailable} {
					if errors.Is(err, class) {
						known++
					}
				}
				if known != 1 || c != nil {
					t.Fatalf("%s: %v", m.Name, err)
				}
				return
			}
			if len(c) > MaxResponse*3/4 {
				t.Fatalf("%s: a challenge of %d octets", m.Name, len(c))
			}
		}
		t.Fatalf("%s does not end", m.Name)
	})
}

// nobody can log in.
type nobody struct{}

func (nobody) Verify(context.Context, string, string) error { return ErrCredentials }
func (nobody) Secret(context.Context, string) (string, bool, error) {
	return "", false, nil
}
func (nobody) SCRAM(_ context.Context, user string, h password.SCRAMHash) (password.Keys, bool, error) {
	if user == "down" {
		return password.Keys{}, false, fmt.Errorf("down")
	}
	return password.Keys{Hash: h, Iterations: 4096, Salt: make([]byte, 16), StoredKey: make([]byte, h.Size()), ServerKey: make([]byte, h.Size())}, false, nil
}

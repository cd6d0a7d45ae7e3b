package authd

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"postamt/internal/authwire"
	"postamt/internal/password"
)

// cram answers as RFC 2195 section 2 has it.
func cram(w *world, user, secret string) authwire.Reply {
	x := w.Begin(context.Background(), &authwire.Request{Mechanism: "CRAM-MD5", Service: "smtp", RemoteIP: here})
	defer x.End()
	reply := x.Next(context.Background(), nil)
	if reply.Status != authwire.Continue {
		return reply
	}
	m := hmac.New(md5.New, []byte(secret))
	m.Write(reply.Data)
	return x.Next(context.Background(), []byte(user+" "+hex.EncodeToString(m.Sum(nil))))
}

// scram is a client of RFC 7677 that believes nothing: it says "forged" if the server does not know the keys itself.
func scram(w *world, user, secret string) (reply authwire.Reply, server string) {
	x := w.Begin(context.Background(), &authwire.Request{Mechanism: "SCRAM-SHA-256", Service: "smtp", RemoteIP: here})
	defer x.End()
	bare := "n=" + user + ",r=rOprNGfwEbeRWgbNEkqO"
	first := x.Next(context.Background(), []byte("n,,"+bare))
	if first.Status != authwire.Continue {
		return first, ""
	}
	var nonce, salt64 string
	var iterations int
	for f := range strings.SplitSeq(string(first.Data), ",") {
		switch f[:2] {
		case "r=":
			nonce = f[2:]
		case "s=":
			salt64 = f[2:]
		case "i=":
			fmt.Sscan(f[2:], &iterations)
		}
	}
	salt, _ := base64.StdEncoding.DecodeString(salt64)
	salted, err := pbkdf2.Key(sha256.New, secret, salt, iterations, 32)
	if err != nil {
		panic(err)
	}
	sum := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	proof := sum(salted, "Client Key")
	storedKey := sha256.Sum256(proof)
	final := "c=biws,r=" + nonce
	all := bare + "," + string(first.Data) + "," + final
	for i, b := range sum(storedKey[:], all) {
		proof[i] ^= b
	}
	last := x.Next(context.Background(), []byte(final+",p="+base64.StdEncoding.EncodeToString(proof)))
	if last.Status != authwire.Continue {
		return last, ""
	}
	server = "forged"
	if string(last.Data) == "v="+base64.StdEncoding.EncodeToString(sum(sum(salted, "Server Key"), all)) {
		server = "genuine"
	}
	return x.Next(context.Background(), []byte{}), server
}

func TestChallengeResponse(t *testing.T) {
	keys, err := password.Make("SCRAM-SHA-256", "secret")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := password.Make("SHA256-CRYPT", "secret")
	if err != nil {
		t.Fatal(err)
	}
	b := newBook(t, "book", map[string]string{"alice": "{PLAIN}secret", "keys": keys, "hash": hash, "off": keys, "locked": "*"})
	b.accounts["off"].Disabled = true
	for _, c := range []struct{ user, given, cram, scram string }{
		{"alice", "secret", "ok alice", "ok alice"},
		{"alice@example.test", "secret", "ok alice", "ok alice"},
		{"alice", "wrong", "no ", "no "},
		{"keys", "secret", "no ", "ok keys"},
		{"keys", "wrong", "no ", "no "},
		{"hash", "secret", "no ", "no "},
		{"locked", "secret", "no ", "no "},
		{"locked", "", "no ", "no "},
		{"nobody", "secret", "no ", "no "},
		{"nobody", "", "no ", "no "},
		{"off", "secret", "no ", "no user_disabled"},
	} {
		w := newWorld(t, nil, b)
		if got := verdict(cram(w, c.user, c.given)); got != c.cram {
			t.Errorf("CRAM-MD5 %s %s: %s, want %s", c.user, c.given, got, c.cram)
		}
		if c.given == "" {
			continue
		}
		reply, server := scram(w, c.user, c.given)
		if got := verdict(reply); got != c.scram {
			t.Errorf("SCRAM %s %s: %s, want %s", c.user, c.given, got, c.scram)
		}
		if reply.Status == authwire.OK && server != "genuine" {
			t.Errorf("SCRAM %s: the server is %s", c.user, server)
		}
	}
}

// Who does not exist has a salt and a number of iterations, too, and the same ones each time.
func TestSCRAMDoesNotShowWhoExists(t *testing.T) {
	w := newWorld(t, nil, newBook(t, "book", map[string]string{"alice": "{PLAIN}secret"}))
	first := func(user string) string {
		x := w.Begin(context.Background(), &authwire.Request{Mechanism: "SCRAM-SHA-256", Service: "smtp", RemoteIP: here})
		defer x.End()
		r := x.Next(context.Background(), []byte("n,,n="+user+",r=abcdefghijklmnop"))
		if r.Status != authwire.Continue {
			t.Fatalf("%s: %s", user, verdict(r))
		}
		_, salt, _ := strings.Cut(string(r.Data), ",")
		return salt
	}
	if first("nobody") != first("nobody") || first("alice") != first("alice") || first("nobody") == first("somebody") {
		t.Error("salts are not of the name")
	}
	if len(first("nobody")) != len(first("alice")) {
		t.Errorf("%s and %s", first("nobody"), first("alice"))
	}
}

package password

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// The exchanges of RFC 5802 section 5 and RFC 7677 section 3.
func TestRFCExchanges(t *testing.T) {
	for _, c := range []struct {
		hash                SCRAMHash
		salt, message       string
		proof, serverSigned string
	}{
		{SHA1, "QSXCR+Q6sek8bf92",
			"n=user,r=fyko+d2lbbFgONRv9qkxdawL,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
			"v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ="},
		{SHA256, "W22ZaJ0SNY7soEsUEjb6gQ==",
			"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
			"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
	} {
		salt, _ := base64.StdEncoding.DecodeString(c.salt)
		proof, _ := base64.StdEncoding.DecodeString(c.proof)
		k := c.hash.derive("pencil", salt, 4096)
		if !k.Check(c.message, proof) {
			t.Errorf("%s: the proof is refused", c.hash)
		}
		if got := base64.StdEncoding.EncodeToString(k.Sign(c.message)); got != c.serverSigned {
			t.Errorf("%s: signature %s", c.hash, got)
		}
		proof[0] ^= 1
		if k.Check(c.message, proof) || k.Check(c.message, proof[1:]) || k.Check(c.message, nil) || k.Check(c.message+"x", proof) {
			t.Errorf("%s: a wrong proof is accepted", c.hash)
		}
		if (Keys{Hash: c.hash}).Check(c.message, make([]byte, c.hash.Size())) {
			t.Errorf("%s: keys that are not there check a proof", c.hash)
		}
	}
}

// Every call costs one derivation with the same parameters, whoever asks: nobody sees by the time of the answer who exists or how his password
// is stored. Counted, not timed.
func TestSCRAMTakesOneDerivationEach(t *testing.T) {
	d := Derivation{Secret: []byte("0123456789abcdef"), Iterations: 5000}
	stored := "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	for _, c := range []struct {
		text string
		hash SCRAMHash
		real bool
	}{
		{"*", SHA256, false},
		{"{PLAIN}secret", SHA256, true},
		{"{PLAIN}secret", SHA1, true},
		{"{PLAIN}" + strings.Repeat("x", 600), SHA1, false},
		{"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", SHA256, false},
		{stored, SHA256, true},
		{stored, SHA1, false},
	} {
		calls := 0
		k, real := mustParse(t, c.text).scram(c.hash, "alice", d, func(p string, salt []byte, n int) Keys {
			if calls++; n != 5000 || len(salt) != scramSalt {
				t.Errorf("%.20s: derived with %d iterations and %d octets of salt", c.text, n, len(salt))
			}
			return c.hash.derive(p, salt, n)
		})
		if calls != 1 || real != c.real {
			t.Errorf("%.20s: %d derivations, real %v", c.text, calls, real)
		}
		if k.Hash != c.hash || len(k.StoredKey) != c.hash.Size() || len(k.ServerKey) != c.hash.Size() || len(k.Salt) < 8 {
			t.Errorf("%.20s: %+v is not complete", c.text, k)
		}
	}
	k, _ := mustParse(t, stored).SCRAM(SHA256, "alice", d)
	if k.Iterations != 4096 || base64.StdEncoding.EncodeToString(k.Salt) != "W22ZaJ0SNY7soEsUEjb6gQ==" {
		t.Error("stored keys are not used")
	}
}

// A salt that is made up is the same each time, as a stored one is, differs between users, hashes and servers, and does not say whether the user exists.
func TestMadeUpSalts(t *testing.T) {
	d := Derivation{Secret: []byte("0123456789abcdef")}
	plain := mustParse(t, "{PLAIN}secret")
	nobody, _ := Stored{}.SCRAM(SHA256, "alice", d)
	again, _ := Stored{}.SCRAM(SHA256, "alice", d)
	known, _ := plain.SCRAM(SHA256, "alice", d)
	if !bytes.Equal(nobody.Salt, again.Salt) || !bytes.Equal(nobody.Salt, known.Salt) || nobody.Iterations != known.Iterations || nobody.Iterations != Iterations {
		t.Error("salts or iterations differ")
	}
	if bytes.Equal(nobody.StoredKey, known.StoredKey) {
		t.Error("keys that are made up are those of a password")
	}
	if (&nobody).verify("decoy") || (&nobody).verify("secret") {
		t.Error("keys that are made up are those of a password that can be guessed")
	}
	other, _ := Stored{}.SCRAM(SHA256, "bob", d)
	sha1, _ := Stored{}.SCRAM(SHA1, "alice", d)
	elsewhere, _ := Stored{}.SCRAM(SHA256, "alice", Derivation{Secret: []byte("fedcba9876543210")})
	for _, k := range []Keys{other, sha1, elsewhere} {
		if bytes.Equal(k.Salt, nobody.Salt) {
			t.Error("the same salt for another")
		}
	}
	if d := (Derivation{Iterations: 1}); d.iterations() != minIterations {
		t.Error("fewer iterations than RFC 7677 allows")
	}
}

// Keys that were made of the password as it is, as Dovecot makes them, and keys that were made of the prepared one are both known
// when the password comes in clear.
func TestVerifyPreparedOrNot(t *testing.T) {
	for _, c := range []string{"½", Prepare("½")} {
		k := SHA256.derive(c, []byte("12345678"), 4096)
		if !k.verify("½") || k.verify("¼") {
			t.Errorf("keys of %+q", c)
		}
	}
}

// RFC 4013 section 3, and what the tables say.
func TestSASLprep(t *testing.T) {
	for in, want := range map[string]string{
		"I\u00adX":        "IX",
		"user":            "user",
		"USER":            "USER",
		"\u00aa":          "a",
		"\u2168":          "IX",
		"a\u00a0b\u3000c": "a b c",
		"½":               "1\u20442",
		"´":               " \u0301",
		"e\u0301":         "é",
		"a\u200db":        "ab",
		"漢字😀":             "漢字😀",
		"\u0627\u0628":    "\u0627\u0628",
		"\a":              "!",
		"\u06271":         "!",
		"\u0627a\u0628":   "!",
		"\u200e":          "!",
		"\ue000":          "!",
		"\ufdd0":          "!",
		"\U0002ffff":      "!",
		"\ufffd":          "!",
		"\u00ad":          "!",
		"\xff":            "!",
		"":                "!",
	} {
		got, err := saslprep(in)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%+q: %+q, want %+q", in, got, want)
		}
		if p := Prepare(in); err != nil && p != in || err == nil && p != want {
			t.Errorf("Prepare(%+q) = %+q", in, p)
		}
	}
}

func FuzzPrepare(f *testing.F) {
	for _, s := range []string{"", "user", "I\u00adX", "½", "\u0627\u0628", "\u0627" + "1", "\xff", "\u1e9b\u0323"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := saslprep(s)
		if err != nil {
			return
		}
		// A client prepares, and the server prepares what it was told: twice must be once. Where one pass uncovers an order of directions or a
		// prohibited character, the second refuses, which Prepare leaves as it is.
		if again := Prepare(p); again != p {
			t.Fatalf("%+q, then %+q", p, again)
		}
	})
}

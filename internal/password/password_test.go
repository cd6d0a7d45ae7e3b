package password

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// cheap costs, so that tests are about meaning.
var cheap = costs{argonMemory: 64, argonPasses: 1, bcrypt: 4, sha: 1000, scram: 4096, yescrypt: "j7."}

func mustParse(t testing.TB, text string) Stored {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

// Known answers: SHA-crypt's of its specification, the others of crypt_blowfish, RFC 9106's reference program and libxcrypt.
func TestKnownAnswers(t *testing.T) {
	for _, c := range []struct{ password, stored, scheme string }{
		{"Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "SHA256-CRYPT"},
		{"Hello world!", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "SHA512-CRYPT"},
		{"Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", "SHA256-CRYPT"},
		{"Hello world!", "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.", "SHA512-CRYPT"},
		{"This is just a test", "$5$rounds=5000$toolongsaltstrin$Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5", "SHA256-CRYPT"},
		{"This is just a test", "$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0", "SHA512-CRYPT"},
		{"a very much longer text to encrypt.  This one even stretches over morethan one line.", "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1", "SHA256-CRYPT"},
		{"a very much longer text to encrypt.  This one even stretches over morethan one line.", "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1", "SHA512-CRYPT"},
		{"we have a short salt string but not a short password", "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/", "SHA256-CRYPT"},
		{"we have a short salt string but not a short password", "$6$rounds=77777$short$WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0", "SHA512-CRYPT"},
		{"a short string", "$5$rounds=123456$asaltof16chars..$gP3VQ/6X7UUEW3HkBn2w1/Ptq2jxPyzV/cZKmF/wJvD", "SHA256-CRYPT"},
		{"a short string", "$6$rounds=123456$asaltof16chars..$BtCwjqMJGx5hrJhZywWvt0RLE8uZ4oPwcelCjmw2kSYu.Ec6ycULevoBK25fs2xXgMNrCzIMVcgEJAstJeonj1", "SHA512-CRYPT"},
		{"the minimum number is still observed", "$5$rounds=1000$roundstoolow$yfvwcWrQ8l/K0DAWyuPMDNHpIVlTQebY9l/gL972bIC", "SHA256-CRYPT"},
		{"the minimum number is still observed", "$6$rounds=1000$roundstoolow$kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX.", "SHA512-CRYPT"},
		{"U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "BLF-CRYPT"},
		{"\xff\xa3" + "345", "$2y$05$/OK.fbVrR/bpIqNJ5ianF.nRht2l/HRhr6zmCp9vYUvvsqynflf9e", "BLF-CRYPT"},
		{"secret", "{BLF-CRYPT}$2y$05$bOgocr/Z.pBID048R6jQSuuUb5W3y3De7vyELaP8MYsO9M2dwZvYS", "BLF-CRYPT"},
		{"secret", "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$8WGwzUH/05jqJGym3bzpgA$Pl5jvoVCnFlPeY9o5qlxsdv7tKgGT/2DLn7Sv5EYiDs", "ARGON2ID"},
		{"secret", "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$Q0zgGxRJmBw2zAzfok7kHA$CYAnX09RjiPwBHjpXjrcWE2jbbcsBgmQHPD3DfDOKd4", "ARGON2I"},
		{"a", "$y$j9T$abcdefgh$7i/136rkrCoteXCYVMmke8IbBDFEZdMzaNTpkj.7sJ2", "CRYPT"},
		{"pencil", "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", "SCRAM-SHA-256"},
		{"pencil", "{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=", "SCRAM-SHA-1"},
		{"secret", "{PLAIN}secret", "PLAIN"},
		{"secret", "{cleartext}secret", "PLAIN"},
		{"secret", "{Plain.b64}c2VjcmV0", "PLAIN"},
		{"secret", "{PLAIN.BASE64}c2VjcmV0", "PLAIN"},
		{"secret", "{plain.HEX}736563726574", "PLAIN"},
		{"{x}", "{PLAIN}{x}", "PLAIN"},
		{"*", "{PLAIN}*", "PLAIN"},
	} {
		s, err := Parse(c.stored)
		if err != nil {
			t.Errorf("%s: %v", c.stored, err)
			continue
		}
		if s.Scheme() != c.scheme || s.Locked() {
			t.Errorf("%s: scheme %q, locked %v", c.stored, s.Scheme(), s.Locked())
		}
		if !s.Verify(c.password) {
			t.Errorf("%s: %q does not match", c.stored, c.password)
		}
		for _, wrong := range []string{"", c.password + "\x00", strings.Repeat("x", MaxPassword+1), c.password + "x"} {
			if s.Verify(wrong) {
				t.Errorf("%s: %q matches", c.stored, wrong)
			}
		}
	}
}

// A01: an empty password is nobody's, and a field without a hash is no password.
func TestLocked(t *testing.T) {
	for _, text := range []string{"", "x", "*", "!", "!!", "*LK*", "!$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
		"{PLAIN}", "{PLAIN.b64}", "{CRYPT}", "{CRYPT}*", "{CRYPT}!", "{SHA512-CRYPT}x", "{SCRAM-SHA-256}!", "{ARGON2ID}"} {
		s := mustParse(t, text)
		for _, p := range []string{"", text, "x", "*", "!", "Hello world!"} {
			if s.Verify(p) {
				t.Errorf("%q: %q matches", text, p)
			}
		}
		if _, ok := s.Plain(); ok || !s.Locked() || s.Scheme() != "" || s.Memory() != 0 {
			t.Errorf("%q is not locked", text)
		}
	}
}

// A08: one line of the file must not be able to stop all logins. What is refused is named, and nothing of it is shown.
func TestRefused(t *testing.T) {
	const tail = "$zzzSECRETzzz"
	sha := strings.Repeat("z", 43)
	for text, want := range map[string]string{
		"hunter2SECRET":                        "without a {SCHEME}",
		"ab1FpN9FfyJSECRET":                    "without a {SCHEME}",
		"{SECRET":                              "{ without }",
		"{SECRET}x":                            "unknown scheme",
		"{}SECRET":                             "unknown scheme",
		"{MD5-CRYPT}$1$SECRET":                 "{MD5-CRYPT}: not supported; make a new one",
		"{sha}SECRET":                          "{SHA}: not supported",
		"{ SHA}SECRET":                         "unknown scheme",
		"{PLAIN.rot13}SECRET":                  "neither b64 nor hex",
		"{PLAIN.b64}SECRET!":                   "not in this encoding",
		"{PLAIN.hex}00":                        "not in this encoding",
		"{PLAIN}SEC\nRET":                      "line end",
		"$1" + tail:                            "$1$: not supported; make a new one",
		"$7$SECRET":                            "$7$: not supported",
		"$SECRET$x":                            "no hash that is known",
		"$":                                    "no hash that is known",
		"{CRYPT}abSECRET":                      "DES",
		"{BLF-CRYPT}$6$SECRET":                 "does not begin with $2",
		"{SHA512-CRYPT}$5$SECRET$":             "does not begin with $6$",
		"{ARGON2ID}$y$SECRET":                  "does not begin with $argon2",
		"$2b$17$" + strings.Repeat("z", 53):    "the cost is not within 4 and 16",
		"$2b$31$" + strings.Repeat("z", 53):    "the cost",
		"$2b$+4$" + strings.Repeat("z", 53):    "the cost",
		"$2b$10$" + strings.Repeat("z", 52):    "malformed",
		"$2b$10$" + strings.Repeat("z", 54):    "malformed",
		"$2b$1":                                "malformed",
		"$2b$":                                 "malformed",
		"$2b":                                  "no hash that is known",
		"$5$rounds=10000001$SECRET$" + sha:     "not within 1000 and 10000000",
		"$5$rounds=999$SECRET$" + sha:          "not within",
		"$5$rounds=05000$SECRET$" + sha:        "not within",
		"$5$rounds=$SECRET$" + sha:             "not within",
		"$5$rounds=99999999999$SECRET$" + sha:  "not within",
		"$5$SECRET$" + sha[1:]:                 "malformed",
		"$5$SECRET$" + sha + "$":               "malformed",
		"$5$SECRETSECRETSECRET$" + sha:         "malformed",
		"$6$SECRET":                            "malformed",
		"$6$":                                  "malformed",
		"$6":                                   "no hash that is known",
		"$y$j9T$SECRET":                        "malformed",
		"$y$k9T$..$" + sha:                     "parameters",
		"$y$jIT$..$" + sha:                     "the cost", // N 2^20: 4 GiB
		"$y$j9zT$..$" + sha:                    "parameters",
		"$y$j9T$...z$" + sha + "x":             "malformed",
		"$y$j9T$zz$" + sha:                     "malformed salt",
		"$argon2d$v=19$m=64,t=1,p=1$SECRET":    "$argon2d$: not supported",
		"$argon2id$m=64,t=1,p=1$SECRET$x":      "malformed",
		"$argon2id$v=16$m=64,t=1,p=1$a$SECRET": "version",
		"$argon2id$v=19$m=1048577,t=1,p=1$MTIzNDU2Nzg$MTIzNDU2NzgxMjM0NTY3OA":      "the cost",
		"$argon2id$v=19$m=1048576,t=5,p=1$MTIzNDU2Nzg$MTIzNDU2NzgxMjM0NTY3OA":      "the cost",
		"$argon2id$v=19$m=64,t=0,p=1$MTIzNDU2Nzg$MTIzNDU2NzgxMjM0NTY3OA":           "malformed parameters",
		"$argon2id$v=19$m=64,t=4294967297,p=1$MTIzNDU2Nzg$MTIzNDU2NzgxMjM0NTY3OA":  "malformed parameters",
		"$argon2id$v=19$m=4096,t=1,p=257$MTIzNDU2Nzg$MTIzNDU2NzgxMjM0NTY3OA":       "the cost",
		"$argon2id$v=19$m=64,t=1,p=9$MTIzNDU2Nzg$MTIzNDU2NzgxMjM0NTY3OA":           "the cost",
		"$argon2id$v=19$m=64,t=1,p=1,keyid=x$MTIzNDU2Nzg$MTIzNDU2NzgxMjM0NTY3OA":   "parameters other",
		"$argon2id$v=19$m=64,t=1,p=1$MTIzNDU2Nzg$":                                 "too short", // or every password would match
		"$argon2id$v=19$m=64,t=1,p=1$MTIzNDU2Nzg=$MTIzNDU2NzgxMjM0NTY3OA":          "malformed",
		"{SCRAM-SHA-256}4096,SECRET":                                               "is not iterations",
		"{SCRAM-SHA-256}4095,W22ZaJ0SNY7soEsUEjb6gQ==,AAAA,AAAA":                   "not within 4096",
		"{SCRAM-SHA-256}10000001,W22ZaJ0SNY7soEsUEjb6gQ==,AAAA,AAAA":               "not within 4096",
		"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,AAAA,AAAA":                   "too short",
		"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,SECRET,AAAA":                 "not in base64",
		"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,,":                           "too short",
		"{SCRAM-SHA-1}4096,W22ZaJ0S,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,": "too short",
		"{PLAIN}" + strings.Repeat("x", MaxStored):                                 "longer than",
	} {
		s, err := Parse(text)
		if err == nil {
			t.Errorf("%q is accepted", text)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, want %q", text, err, want)
		}
		if strings.Contains(strings.ToUpper(err.Error()), "SECRET") || strings.Contains(err.Error(), "zzz") {
			t.Errorf("%q: the error shows what is stored: %v", text, err)
		}
		if !s.Locked() || s.Verify("SECRET") {
			t.Errorf("%q: not locked", text)
		}
	}
}

// A11: a Stored in a structure that somebody prints must not show its hash.
func TestPrintsNoSecret(t *testing.T) {
	for _, text := range []string{"{PLAIN}canary", "$5$canary$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"} {
		s := mustParse(t, text)
		keys, _ := s.SCRAM(SHA256, "alice", Derivation{Secret: []byte("canary")})
		keys.Salt = []byte("canary")
		in := struct {
			a Stored
			B Stored
			K Keys
		}{s, s, keys}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
			got := fmt.Sprintf(verb, in) + fmt.Sprintf(verb, s) + fmt.Sprintf(verb, &s) + fmt.Sprintf(verb, keys)
			if strings.Contains(got, "canary") || strings.Contains(got, "63616e617279") || strings.Contains(got, "5B8v") || strings.Contains(got, fmt.Sprint([]byte("canary"))) {
				t.Errorf("%s shows %s", verb, got)
			}
		}
	}
}

// A08: what a check will take is known before it is run.
func TestMemory(t *testing.T) {
	for text, want := range map[string]int64{
		"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$8WGwzUH/05jqJGym3bzpgA$Pl5jvoVCnFlPeY9o5qlxsdv7tKgGT/2DLn7Sv5EYiDs": 64 << 20,
		"$y$j9T$abcdefgh$7i/136rkrCoteXCYVMmke8IbBDFEZdMzaNTpkj.7sJ2":                                                 16 << 20,
		"{PLAIN}secret": 0,
	} {
		if got := mustParse(t, text).Memory(); got != want {
			t.Errorf("%s: %d octets, want %d", text, got, want)
		}
	}
}

// Equal work: a decoy computes what its model computes, with the same cost, and then says no.
func TestDecoy(t *testing.T) {
	for _, scheme := range MakeSchemes() {
		text, err := makeAt(scheme, "secret", cheap)
		if err != nil {
			t.Fatal(err)
		}
		s := mustParse(t, text)
		calls := 0
		check := s.s.check
		s.s.check = func(p string) bool { calls++; return check(p) }
		d := s.Decoy()
		if !s.Verify("secret") || s.Verify("wrong") || calls != 2 {
			t.Fatalf("%s: %d computations", scheme, calls)
		}
		if d.Verify("secret") || d.Verify("wrong") || calls != 4 {
			t.Errorf("%s: the decoy matches, or takes another way: %d computations", scheme, calls)
		}
		if !d.Locked() || d.Memory() != s.Memory() || d.Scheme() != s.Scheme() || d.Costly() != s.Costly() {
			t.Errorf("%s: the decoy is of another kind", scheme)
		}
		if _, ok := d.Plain(); ok {
			t.Errorf("%s: the decoy tells a password", scheme)
		}
	}
	if (Stored{}).Decoy().Verify("x") {
		t.Error("the decoy of nothing matches")
	}
}

// What Make makes, Parse reads and Verify knows; no other password matches; the text fits into a line of users(5).
func TestMake(t *testing.T) {
	alphabet := []rune(`aZ09 :{}$,;!*\"'=#%§üß½ªéЖ漢字😀´`)
	rapid.Check(t, func(rt *rapid.T) {
		scheme := rapid.SampledFrom(append(MakeSchemes(), "", "crypt", "clear", "plain.base64")).Draw(rt, "scheme")
		runes := rapid.SliceOfN(rapid.SampledFrom(alphabet), 1, 14).Draw(rt, "password")
		p := string(runes)
		text, err := makeAt(scheme, p, cheap)
		if err != nil {
			if upper := strings.ToUpper(scheme); (upper == "PLAIN" || upper == "CLEAR") && strings.Contains(err.Error(), "does not fit") {
				return
			}
			rt.Fatal(err)
		}
		if strings.ContainsAny(text, ": \n") {
			rt.Fatalf("%q does not fit into a field", text)
		}
		s, err := Parse(text)
		if err != nil || !s.Verify(p) {
			rt.Fatalf("%s of %q: %v, or does not match", text, p, err)
		}
		if other := p + "x"; s.Verify(other) {
			rt.Fatalf("%s: %q matches", text, other)
		}
		if again, _ := makeAt(scheme, p, cheap); again == text && s.Costly() {
			rt.Fatal("the same salt twice")
		}
	})
}

func TestMakeRefuses(t *testing.T) {
	for _, c := range []struct{ scheme, password, want string }{
		{"", "", "wanted"},
		{"", strings.Repeat("x", MaxPassword+1), "longer than 512"},
		{"", "a\x00b", "control character"},
		{"", "a\nb", "control character"},
		{"", "\xff", "not UTF-8"},
		{"BLF-CRYPT", strings.Repeat("x", 73), "no more than 72"},
		{"SCRAM-SHA-256", "\u0627" + "1", "SASLprep prohibits"},
		{"MD5-CRYPT", "x", "cannot be made"},
		{"PLAIN", "a:b", "{PLAIN.b64}"},
	} {
		if text, err := makeAt(c.scheme, c.password, cheap); err == nil || !strings.Contains(err.Error(), c.want) || text != "" {
			t.Errorf("%s of %.20q: %q, %v", c.scheme, c.password, text, err)
		}
	}
}

// The defaults are within what Parse accepts and what other programs verify; see strangers_test.go.
func TestMakeDefaults(t *testing.T) {
	for _, scheme := range MakeSchemes() {
		text, err := Make(scheme, "secret")
		if err != nil {
			t.Fatal(err)
		}
		if s := mustParse(t, text); !s.Verify("secret") || s.Memory() > 32<<20 {
			t.Errorf("%s: %d octets", text, s.Memory())
		}
	}
	if !slices.Contains(MakeSchemes(), DefaultScheme) {
		t.Error("the default cannot be made")
	}
}

// A01: 512 octets and no more, whatever the scheme: SHA-crypt's cost grows with the square of the length.
func TestLongPassword(t *testing.T) {
	fits, longer := strings.Repeat("x", MaxPassword), strings.Repeat("x", MaxPassword+1)
	text, err := makeAt("SHA512-CRYPT", fits, cheap)
	if err != nil {
		t.Fatal(err)
	}
	if !mustParse(t, text).Verify(fits) {
		t.Error("512 octets do not match")
	}
	if mustParse(t, "{PLAIN}"+longer).Verify(longer) {
		t.Error("513 octets match")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "*", "{PLAIN}secret", "{PLAIN.b64}c2VjcmV0", "{CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
		"$5$rounds=1000$roundstoolow$yfvwcWrQ8l/K0DAWyuPMDNHpIVlTQebY9l/gL972bIC", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"$y$j7/$abcdefgh$7i/136rkrCoteXCYVMmke8IbBDFEZdMzaNTpkj.7sJ2", "$y$j.5$$7i/136rkrCoteXCYVMmke8IbBDFEZdMzaNTpkj.7sJ2",
		"$argon2id$v=19$m=64,t=1,p=1$MTIzNDU2Nzg$MTIzNDU2NzgxMjM0NTY3OA", "{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			if !s.Locked() {
				t.Fatal("an error, and not locked")
			}
			return
		}
		if s.Memory() < 0 || s.Memory() > maxMemory {
			t.Fatalf("%d octets", s.Memory())
		}
		// Those that are cheap are run: nothing that Parse accepts may fail or panic.
		if s.Memory() <= 1<<20 && !strings.Contains(text, "rounds=") && !strings.Contains(text, "$2") && !strings.Contains(text, ",t=") && s.s != nil && s.s.keys == nil {
			if p, plain := s.Plain(); s.Verify("canary") && p != "canary" {
				t.Fatalf("matches a password that it was not made of (plain: %v)", plain)
			}
		}
	})
}

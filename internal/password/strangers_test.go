package password

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/peers"
)

// passwords that other programs get, too: lengths around the sizes of blocks and digests, and what is not ASCII.
var passwords = []string{
	"secret", "a", strings.Repeat("0123456789", 7), strings.Repeat("x", 16), strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("x", 33),
	strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("x", 65), "pässwörd", "漢字 😀", ` $"'\`, "½",
}

// need returns the path of a program, or skips.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	return path
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s%s", cmd.Args, err, out, stderr.Bytes())
	}
	return strings.TrimSuffix(string(out), "\n")
}

// crypt is crypt(3) of this system for pairs of password and setting, "" where it does not know the method.
func crypt(t *testing.T, pairs [][2]string) []string {
	t.Helper()
	cmd := exec.Command(need(t, "perl"), "-ne", `chomp; my ($p, $s) = map { pack "H*", $_ } split /,/; print crypt($p, $s) // "", "\n"`)
	var in strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&in, "%x,%x\n", p[0], p[1])
	}
	cmd.Stdin = strings.NewReader(in.String())
	out := strings.Split(output(t, cmd), "\n")
	if len(out) != len(pairs) {
		t.Fatalf("%d answers to %d pairs", len(out), len(pairs))
	}
	for i, got := range out {
		if len(got) <= len(pairs[i][1]) && len(got) < 40 || got[0] != '$' {
			out[i] = ""
		}
	}
	return out
}

// What crypt(3) of this system makes, we know, and the reverse.
func TestSystemCrypt(t *testing.T) {
	var pairs [][2]string
	for _, setting := range []string{"$5$saltstring", "$5$rounds=1000$x", "$5$$", "$6$saltstring", "$6$rounds=1001$0123456789abcdef", "$6$$",
		"$2a$04$abcdefghijklmnopqrstuu", "$2b$04$abcdefghijklmnopqrstuu", "$2y$04$abcdefghijklmnopqrstuu", "$y$j75$", "$y$j7.$abcdefgh", "$y$j75$LdJMENpBABJJ3hIHjB1Bi."} {
		for _, p := range passwords {
			pairs = append(pairs, [2]string{p, setting})
		}
	}
	for i, theirs := range crypt(t, pairs) {
		p := pairs[i][0]
		if theirs == "" {
			t.Logf("crypt(3) does not know %s", pairs[i][1])
		} else if s, err := Parse(theirs); err != nil || !s.Verify(p) {
			t.Errorf("crypt(%q) = %s: %v, or does not match", p, theirs, err)
		} else if s.Verify(p + "y") {
			// bcrypt sees 72 octets, and none of these has as many.
			t.Errorf("crypt(%q) = %s matches %q", p, theirs, p+"y")
		}
	}

	pairs = nil
	for _, scheme := range []string{"SHA256-CRYPT", "SHA512-CRYPT", "BLF-CRYPT", "YESCRYPT"} {
		for _, p := range passwords {
			text, err := makeAt(scheme, p, cheap)
			if err != nil {
				t.Fatal(err)
			}
			_, ours, _ := strings.Cut(text, "}")
			pairs = append(pairs, [2]string{p, ours})
		}
	}
	for i, theirs := range crypt(t, pairs) {
		if theirs != "" && theirs != pairs[i][1] {
			t.Errorf("%q is %s to us and %s to crypt(3)", pairs[i][0], pairs[i][1], theirs)
		}
	}
}

func TestMkpasswd(t *testing.T) {
	mkpasswd := need(t, "mkpasswd")
	for _, method := range []string{"sha256crypt", "sha512crypt", "bcrypt", "bcrypt-a", "yescrypt"} {
		theirs := output(t, exec.Command(mkpasswd, "-m", method, "pässwörd"))
		if s, err := Parse(theirs); err != nil || !s.Verify("pässwörd") || s.Verify("passwort") {
			t.Errorf("%s: %s: %v, or does not match", method, theirs, err)
		}
	}
	for _, method := range []string{"md5crypt", "descrypt", "bsdicrypt", "nt", "sunmd5", "scrypt", "gost-yescrypt"} {
		theirs := output(t, exec.Command(mkpasswd, "-m", method, "secret"))
		if _, err := Parse(theirs); err == nil {
			t.Errorf("%s: %s is accepted", method, theirs)
		}
	}
}

// doveadm is Dovecot's, installed, or unpacked by test/deps.sh. -O: without a configuration.
func doveadm(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{"-O", "pw"}, args...)
	if path, err := exec.LookPath("doveadm"); err == nil {
		return exec.Command(path, args...)
	}
	dir, err := peers.Dir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "usr/bin/doveadm")
	if _, err := os.Stat(path); err != nil {
		t.Skip("doveadm is not installed")
	}
	libraries := []string{filepath.Join(dir, "usr/lib/dovecot")}
	for _, pattern := range []string{"usr/lib/*-linux-*", "lib/*-linux-*"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		libraries = append(libraries, found...)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	return cmd
}

// What Dovecot makes, we know, and the reverse, in each encoding that either writes.
func TestDovecot(t *testing.T) {
	for _, scheme := range []string{"PLAIN", "CLEARTEXT", "CRYPT", "BLF-CRYPT", "SHA256-CRYPT", "SHA512-CRYPT", "ARGON2I", "ARGON2ID", "SCRAM-SHA-1", "SCRAM-SHA-256",
		"PLAIN.b64", "PLAIN.hex", "SHA512-CRYPT.hex", "SCRAM-SHA-256.base64", "ARGON2ID.B64"} {
		const p = "pässwörd½"
		theirs := output(t, doveadm(t, "-s", scheme, "-p", p))
		if s, err := Parse(theirs); err != nil || !s.Verify(p) || s.Verify("passwort") {
			t.Errorf("%s: %s: %v, or does not match", scheme, theirs, err)
		}
	}
	for _, scheme := range MakeSchemes() {
		if scheme == "YESCRYPT" {
			continue // Dovecot has it from crypt(3), if that has it
		}
		ours, err := Make(scheme, "secret")
		if err != nil {
			t.Fatal(err)
		}
		if got := output(t, doveadm(t, "-t", ours, "-p", "secret")); !strings.Contains(got, "(verified)") {
			t.Errorf("%s: %s", ours, got)
		}
	}
	// Of the names that Dovecot lists each is supported, or refused by its name.
	for name := range strings.FieldsSeq(output(t, doveadm(t, "-l"))) {
		if _, err := Parse("{" + name + "}zzz"); err != nil && strings.Contains(err.Error(), "unknown") {
			t.Errorf("{%s} is not known", name)
		}
	}
}

// GNU SASL prepares as a client does (libidn's SASLprep): the same keys come out, or it refuses and so do we.
func TestGsaslPrepares(t *testing.T) {
	gsasl := need(t, "gsasl")
	for _, p := range []string{"pencil", "½", "´", "a\u200bb", "I\u00adX", "ª", "Ⅸ", "a\u00a0b", "e\u0301", "ſ̣", "漢字", "한글", "ﷺ", "\u0627\u0628", "\u0627" + "1", "\u06271\u0628", "a\u0627",
		"\u200e", "\ue000", "a\u2028", "\u0340x", "Ǆ", "\u1e9b\u0323"} {
		out, err := exec.Command(gsasl, "-k", "-m", "SCRAM-SHA-256", "-p", p, "--salt", "QSXCR+Q6sek8bf92", "--iteration-count", "4096").CombinedOutput()
		_, refused := saslprep(p)
		if (err != nil) != (refused != nil) {
			t.Errorf("%+q: gsasl says %v: %s; we %v", p, err, out, refused)
			continue
		}
		if err != nil {
			continue
		}
		s, err := Parse(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if !s.s.keys.of(Prepare(p)) {
			t.Errorf("%+q: gsasl has other keys", p)
		}
	}
}

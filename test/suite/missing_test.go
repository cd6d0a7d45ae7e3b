package suite

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postamt/test/peers"
)

// TestMissingFiles: files that the configuration names and that are not there are said all at once, each with the line that names it, by every
// program that needs them.
func TestMissingFiles(t *testing.T) {
	bin, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	listen, err := peers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Bin: bin, Settings: strings.Join([]string{
		"local_domains example.test ./nodomains",
		"aliases aliases noaliases",
		"virtual_aliases /no/virtual",
		"users nousers",
		"routes noroutes",
		"tls_cert nocert.pem",
		"tls_key nokey.pem",
		"tls_keys self",
		"tls_client_ca noca.pem",
		"auth_hashes 1",
		"pop3d_listen " + listen + "=pop3",
		"imapd_listen " + listen + "=imap",
	}, "\n")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Remove()
	tables := []string{"local_domains ./nodomains", "users nousers"}
	for _, c := range []struct {
		program string
		named   []string // key and file
	}{
		{"smtpd", append([]string{"aliases noaliases", "virtual_aliases /no/virtual", "routes noroutes", "tls_cert nocert.pem", "tls_client_ca noca.pem"}, tables...)},
		{"queued", append([]string{"aliases noaliases", "virtual_aliases /no/virtual", "routes noroutes"}, tables...)},
		{"deliver", tables},
		{"pop3d", append([]string{"tls_cert nocert.pem", "tls_client_ca noca.pem"}, tables...)},
		{"imapd", append([]string{"tls_cert nocert.pem", "tls_client_ca noca.pem"}, tables...)},
		{"keyd", []string{"tls_key nokey.pem"}},
		{"authd", []string{"local_domains ./nodomains"}}, // "authd passwd" makes users
	} {
		t.Run(c.program, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(bin, c.program), "-C", s.Conf)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 78 /* EX_CONFIG */ {
				t.Errorf("ended with %v", err)
			}
			want := make([]string, len(c.named))
			for i, n := range c.named {
				key, file, _ := strings.Cut(n, " ")
				want[i] = s.Conf + ":" + s.line(t, key) + ": " + key + ": "
				if found := slices.ContainsFunc(strings.Split(string(out), "\n"), func(line string) bool {
					return strings.Contains(line, want[i]) && strings.Contains(line, filepath.Base(file)+": no such file or directory")
				}); !found {
					t.Errorf("no line has %q and %q", want[i], file)
				}
			}
			if n := strings.Count(string(out), s.Conf+":"); n != len(want) {
				t.Errorf("%d lines are named, not %d", n, len(want))
			}
			if t.Failed() {
				t.Logf("%s", out)
			}
		})
	}
}

// line is where the configuration sets a key.
func (s *System) line(t *testing.T, key string) string {
	t.Helper()
	b, err := os.ReadFile(s.Conf)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, key+" ") {
			return strconv.Itoa(i + 1)
		}
	}
	t.Fatalf("%s is not set", key)
	return ""
}

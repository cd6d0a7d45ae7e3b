package start

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postamt/test/suite"
)

// costly are packages whose initialisation costs, as GODEBUG=inittrace=1 says of a program with crypto/tls and them: more octets allocated, in so
// many more pieces. An empty program with crypto/tls has 18 KB in 188. Only programs that stay, and cannot do without, have them;
// and queuectl, which people start.
var costly = []struct {
	path, cost string
	allowed    []string
}{
	{"net/http", "16.0 KB in 51", []string{"authd"}},
	{"compress/flate", "3.8 KB", []string{"authd", "imapd"}}, // of net/http; COMPRESS
	{"github.com/miekg/dns", "22.5 KB in 72", []string{"queued", "queuectl"}},
	{"golang.org/x/sys/cpu", "5.3 KB in 10, and the questions to the processor", []string{"authd"}}, // of password hashes
	{"html/template", "20.9 KB in 77", nil},
	{"encoding/gob", "29.5 KB in 433", nil},
	{"encoding/xml", "18.2 KB", nil},
	{"expvar", "19.0 KB in 88", nil},
	{"testing", "0.6 KB, and flags", nil},
	{"postamt/internal/password", "where no password is checked there are no hashes", []string{"authd"}},
}

// TestImports: no program links what costs at its start, but for those that must.
func TestImports(t *testing.T) {
	for _, program := range []string{"smtpd", "queued", "deliver", "authd", "keyd", "pop3d", "imapd", "queuectl", "mailboxctl", "aliasctl", "sendmail"} {
		out, err := exec.Command("go", "list", "-deps", "postamt/cmd/"+program).Output()
		if err != nil {
			t.Fatal(err)
		}
		deps := strings.Fields(string(out))
		for _, c := range costly {
			if slices.Contains(deps, c.path) && !slices.Contains(c.allowed, program) {
				t.Errorf("%s links %s (%s): go list -deps -f '{{.ImportPath}}: {{.Imports}}' ./cmd/%[1]s tells by whom", program, c.path, c.cost)
			}
		}
		for _, p := range allowed(program) {
			if !slices.Contains(deps, p) {
				t.Errorf("%s does not link %s any more: take it out of the table", program, p)
			}
		}
	}
}

// allowed are the costly packages that a program is allowed.
func allowed(program string) (paths []string) {
	for _, c := range costly {
		if slices.Contains(c.allowed, program) {
			paths = append(paths, c.path)
		}
	}
	return paths
}

// TestInitialisation: before main, programs that are executed for each connection or message allocate at most half as much again as an
// empty program with crypto/tls. Memory, because it is the same in each run; make bench-start has times.
func TestInitialisation(t *testing.T) {
	bin, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	octets, pieces := initialised(t, empty(t))
	for _, program := range []string{"smtpd", "deliver", "keyd", "pop3d", "imapd"} {
		o, p := initialised(t, filepath.Join(bin, program), allowed(program)...)
		t.Logf("%s: %d octets in %d allocations, empty program with crypto/tls: %d in %d", program, o, p, octets, pieces)
		if 2*o > 3*octets || 2*p > 3*pieces {
			t.Errorf("%s: %d octets in %d allocations, an empty program with crypto/tls: %d in %d", program, o, p, octets, pieces)
		}
	}
}

// empty builds a program of which nothing is left but the initialisation of crypto/tls.
func empty(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module empty\n", "main.go": "package main\n\nimport _ \"crypto/tls\"\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", "empty", ".")
	c.Dir = dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "empty")
}

// initialised sums up what a program says of its initialisation, but for that of some packages.
func initialised(t *testing.T, program string, but ...string) (octets, pieces int) {
	t.Helper()
	for _, m := range trace(t, program) {
		if slices.Contains(but, m[1]) {
			continue
		}
		o, _ := strconv.Atoi(m[3])
		p, _ := strconv.Atoi(m[4])
		octets, pieces = octets+o, pieces+p
	}
	return octets, pieces
}

// trace has a program print what it initialises: package, milliseconds, octets, allocations. It ends with wrong usage.
func trace(t *testing.T, program string) [][]string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^init (\S+) @\S+ ms, (\S+) ms clock, (\d+) bytes, (\d+) allocs$`)
	c := exec.Command(program, "-frob")
	c.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, _ := c.CombinedOutput()
	lines := line.FindAllStringSubmatch(string(out), -1)
	if len(lines) < 20 {
		t.Fatalf("%s: %s", program, out)
	}
	return lines
}

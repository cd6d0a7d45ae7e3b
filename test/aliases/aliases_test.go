// Package aliases reads the alias files of other people's packages, and asks Debian's Postfix and Exim what they make of the same files.
package aliases

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postamt/internal/alias"
	"postamt/test/peers"
)

// samples are files and what we find wrong in them: the line, and how the text begins.
var samples = map[string][]string{
	"testdata/debian-exim4":   nil,
	"testdata/debian-postfix": nil,
	"testdata/exim":           {"2: warning: no colon after", "4: warning: no colon after"},
	"testdata/opensmtpd":      {"4: warning: no colon after", "5: warning: no colon after"},
	"testdata/postfix":        {"20: warning: no comma before", `25: "twice" is a key in line 24`},
	"testdata/sendmail":       nil,
	"testdata/virtual":        {"12: warning: no comma before"},
	"sendmail-base/usr/share/sendmail/examples/db/aliases": nil,
	"courier-mta/etc/courier/aliases/system":               {`14: "mailer-daemon" is a key in line 12`, `22: "postmaster" stands for nothing`},
}

// differ are the entries of which Postfix and Exim do not think the same, and what they are here.
var differ = map[string]string{
	// Postfix wants a colon.
	"exim postmaster": "alice@example.org, bob@example.org", "opensmtpd user1": "otheruser@example.org", "opensmtpd user2": "otheruser1@example.org, otheruser2@example.org",
	// A backslash joins lines for sendmail; for Exim it is one.
	"exim nocolon": "carol@far.example, dave@far.example",
	// Postfix has none of these, and Exim no "error:".
	"exim gone": ":fail:", "exim later": ":defer:", "postfix fail": ":fail:", "opensmtpd gone": ":fail:",
	// An indented comment is part of the entry for Exim, and ends it; one after a comma is addresses for Postfix.
	"postfix postmaster": "alice@example.org, bob@example.org, carol@far.example", "postfix root": "alice@example.org, bob@example.org, carol@far.example",
	"postfix comment": "alice@example.org, bob@example.org",
	// Exim has no words without commas, nor has what splits Postfix's answers here.
	"postfix words": "alice@example.org, bob@example.org",
}

// waits is where Postfix and Exim go on as if the entry were not there, and we wait until it is mended: it stands for nothing.
var waits = []string{"system postmaster", "system root", "system mailer-daemon", "system uucp"}

// read copies a sample to dir, with the path of its list file, and parses it.
func read(t *testing.T, dir, name string) (path string, table *alias.Table, problems []alias.Problem) {
	t.Helper()
	from := name
	if !strings.HasPrefix(name, "testdata/") {
		unpacked, err := peers.Dir()
		if err != nil {
			t.Fatal(err)
		}
		from = filepath.Join(unpacked, "samples", name)
	}
	b, err := os.ReadFile(from)
	if errors.Is(err, os.ErrNotExist) && from != name && os.Getenv("SKIP_MISSING") == "1" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("testdata/LIST")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "aliases")
	text := strings.ReplaceAll(string(b), "LIST", filepath.Join(dir, "list"))
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.WriteFile(filepath.Join(dir, "list"), list, 0o644)); err != nil {
		t.Fatal(err)
	}
	if table, problems, err = alias.Parse(path, text); err != nil {
		t.Fatal(err)
	}
	return path, table, problems
}

// public is a temporary directory that the peers' accounts may read.
func public(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "aliases")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSamplesAreRead(t *testing.T) {
	for name, want := range samples {
		t.Run(name, func(t *testing.T) {
			path, table, problems := read(t, t.TempDir(), name)
			if table.Len() == 0 {
				t.Error("no entry")
			}
			for i, p := range problems {
				at := fmt.Sprintf("%d: ", p.Pos.Line)
				if p.Warning {
					at += "warning: "
				}
				if i >= len(want) || !strings.HasPrefix(at+p.Text, want[i]) {
					t.Errorf("told of %s%s", at, p.Text)
				}
			}
			if len(problems) < len(want) {
				t.Errorf("%s: not told of %q", path, want[len(problems):])
			}
		})
	}
}

const domain = "example.org"

// ends is where mail for a name goes: of the three, who says what an alias stands for.
type ends struct {
	lookup func(name string) []string // its items, of which a name or an address in domain is looked up again; nil if there is none
	found  map[string]bool
}

func (e *ends) of(name string, above ...string) {
	items := e.lookup(name)
	if items == nil || slices.Contains(above, name) { // an address that is in the way to itself is the mailbox
		e.found[name+"@"+domain] = true
		return
	}
	above = append(slices.Clip(above), name)
	for _, s := range items {
		local, at, _ := strings.Cut(s, "@")
		switch {
		case strings.HasPrefix(s, `\`):
			e.found[s[1:]+"@"+domain] = true
		case strings.HasPrefix(s, ":include:"):
			b, err := os.ReadFile(s[len(":include:"):])
			if err != nil {
				panic(err)
			}
			for line := range strings.Lines(string(b)) {
				if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
					for _, item := range split(line) {
						e.item(item, above)
					}
				}
			}
		case strings.ContainsAny(s[:1], "|/:"):
			e.found[s] = true
		case at == "" || at == domain:
			e.of(local, above...)
		default:
			e.found[s] = true
		}
	}
}

func (e *ends) item(s string, above []string) {
	if strings.Contains(s, "@") {
		e.found[s] = true
	} else {
		e.of(s, above...)
	}
}

func sorted(found map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(found)), ", ")
}

// split is what Postfix's documents call an address list: commas outside of quotes; quotes around an item go, and so does a phrase.
func split(s string) (items []string) {
	var b strings.Builder
	quoted := false
	end := func() {
		item := strings.TrimSpace(b.String())
		b.Reset()
		if i := strings.LastIndexByte(item, '<'); i >= 0 && strings.HasSuffix(item, ">") {
			item = item[i+1 : len(item)-1]
		}
		if strings.HasPrefix(item, `"`) && strings.HasSuffix(item, `"`) {
			item = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(item[1 : len(item)-1])
		}
		if item == "" {
			return
		}
		if item == "/dev/null" {
			item = ":blackhole:"
		}
		if !strings.ContainsAny(item[:1], "|/:\"") {
			item = strings.ToLower(item)
		}
		items = append(items, item)
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			b.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			end()
			continue
		}
		b.WriteByte(s[i])
	}
	end()
	return items
}

// ours is what our table says.
func ours(table *alias.Table) func(string) []string {
	return func(name string) (items []string) {
		e, ok := table.Lookup(name, "")
		if !ok {
			return nil
		}
		for _, x := range e.Targets() {
			s := x.String()
			switch x.Kind {
			case alias.Address, alias.Local, alias.Domain:
				s = strings.ToLower(s)
			case alias.Fail:
				s = ":fail:"
			case alias.Defer, alias.Bad:
				s = ":defer:"
			}
			items = append(items, s)
		}
		return items
	}
}

// postfix compiles a file with a program of Debian's Postfix, and returns what that says is in it.
func postfix(t *testing.T, dir, program, path string) map[string]string {
	t.Helper()
	unpacked, err := peers.Dir()
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "postfix")
	text := fmt.Sprintf("compatibility_level = 3.6\nmail_owner = mail\nsetgid_group = uucp\nqueue_directory = %s\nshlib_directory = %[2]s/usr/lib/postfix\ndaemon_directory = %[2]s/usr/lib/postfix/sbin\n", dir, unpacked)
	if err := errors.Join(os.Mkdir(conf, 0o755), os.WriteFile(conf+"/main.cf", []byte(text), 0o644),
		os.Chtimes(conf+"/main.cf", time.Now(), time.Now().Add(-time.Hour))); err != nil { // Postfix waits for a file that was just written
		t.Fatal(err)
	}
	if out, err := command(t, program, "-c", conf, "hash:"+path).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", program, err, out)
	}
	out, err := command(t, program, "-c", conf, "-s", "hash:"+path).Output()
	if err != nil {
		t.Fatalf("%s -s: %v", program, err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if program == "postalias" {
			key = strings.TrimSuffix(key, ":")
		}
		values[key] = value
	}
	return values
}

func command(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	c, err := peers.Command(program, args...)
	if errors.Is(err, peers.ErrMissing) && os.Getenv("SKIP_MISSING") == "1" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	return c
}

// exim is where addresses go by Debian's Exim, with a redirect router that looks up key in the file.
func exim(t *testing.T, dir, key, path string, addresses []string) []string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("Exim needs root")
	}
	for _, sub := range []string{"spool", "log"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, sub), 0o777), os.Chmod(filepath.Join(dir, sub), 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(dir, "exim.conf")
	text := fmt.Sprintf(`primary_hostname = exim.example.net
spool_directory = %[1]s/spool
log_file_path = %[1]s/log/%%s
qualify_domain = example.org
keep_environment =
begin routers
aliases:
  driver = redirect
  domains = example.org : example.net
  data = ${lookup{%[2]s}lsearch{%[3]s}}
  allow_fail
  allow_defer
  file_transport = any
  directory_transport = any
  pipe_transport = any
all:
  driver = accept
  transport = any
begin transports
any:
  driver = appendfile
  file = /dev/null
`, dir, key, path)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := command(t, "exim4", "-C", conf, "-bt")
	c.Stdin = strings.NewReader(strings.Join(addresses, "\n") + "\n")
	out, err := c.Output()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() > 2) {
		t.Fatalf("exim -bt: %v %s", err, out)
	}
	answers := strings.Split("\n"+string(out), "\n> ")[1:]
	if len(answers) != len(addresses)+1 { // and the last prompt
		t.Fatalf("exim -bt answered %q", out)
	}
	var all []string
	for _, answer := range answers[:len(addresses)] {
		found := map[string]bool{}
		for line := range strings.Lines(answer) {
			line = strings.TrimSuffix(line, "\n")
			line = strings.TrimSuffix(line, "   [duplicate, would not be delivered]")
			_, to, direct := strings.Cut(line, " -> ")
			switch {
			case strings.HasPrefix(line, " "):
			case to == "/dev/null":
				found[":blackhole:"] = true
			case direct:
				found[to] = true
			case strings.Contains(line, " is undeliverable"):
				found[":fail:"] = true
			case strings.HasSuffix(line, " is discarded"):
				found[":blackhole:"] = true
			case strings.Contains(line, " cannot be resolved at this time"):
				found[":defer:"] = true
			default:
				found[strings.ToLower(line)] = true
			}
		}
		all = append(all, sorted(found))
	}
	return all
}

// Where Postfix and Exim agree about an entry, we do too. Where they do not, what we do is written down here.
func TestAliasesAreWhatOthersMakeOfThem(t *testing.T) {
	asked := 0
	for name := range samples {
		if name == "testdata/virtual" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := public(t)
			path, table, _ := read(t, dir, name)
			stored := postfix(t, dir, "postalias", path)
			var keys, addresses []string
			for e := range table.Entries() {
				local := e.Key()
				if strings.ContainsAny(local, " :") {
					local = `"` + local + `"`
				}
				keys, addresses = append(keys, e.Key()), append(addresses, local+"@"+domain)
			}
			routed := exim(t, dir, "$local_part", path, addresses)
			for i, key := range keys {
				us := ends{ours(table), map[string]bool{}}
				us.of(key)
				them := ends{func(name string) []string { return split(stored[name]) }, map[string]bool{}}
				them.of(key)
				got, p, x := sorted(us.found), sorted(them.found), routed[i]
				asked++
				entry := filepath.Base(name) + " " + key
				want, listed := differ[entry]
				switch {
				case slices.Contains(waits, entry):
					if got != ":defer:" || p != "postmaster@example.org" || x != p {
						t.Errorf("%s goes to %s, and by others to %s and %s", key, got, p, x)
					}
				case p == x && got != p:
					t.Errorf("%s goes to %s, and by Postfix and Exim to %s", key, got, p)
				case p == x && listed:
					t.Errorf("%s: Postfix and Exim agree: %s", key, p)
				case p != x && !listed:
					t.Errorf("%s goes\n  here        to %s\n  by Postfix  to %s\n  by Exim     to %s", key, got, p, x)
				case listed && got != want:
					t.Errorf("%s goes to %s, not %s", key, got, want)
				}
			}
		})
	}
	t.Logf("%d entries", asked)
}

// A virtual table says here what it says to postmap(1), and for addresses to Exim.
func TestVirtualIsWhatOthersMakeOfIt(t *testing.T) {
	dir := public(t)
	path, table, _ := read(t, dir, "testdata/virtual")
	stored := postfix(t, dir, "postmap", path)
	var addresses, want []string
	for e := range table.Entries() {
		var l []string
		for _, x := range e.Targets() {
			l = append(l, strings.ToLower(x.String()))
		}
		key := e.Key()
		if local, at, _ := strings.Cut(key, "@"); strings.Contains(local, " ") {
			key = `"` + local + `"@` + at
		}
		value, ok := stored[key]
		if !ok {
			t.Errorf("%s is unknown to Postfix", e.Key())
		}
		p := strings.FieldsFunc(strings.ToLower(value), func(r rune) bool { return r == ',' || r == ' ' })
		if !slices.Equal(l, p) {
			t.Errorf("%s is %s, and for Postfix %s", e.Key(), l, p)
		}
		if strings.HasPrefix(e.Key(), "@") || strings.Contains(e.Key(), " ") || strings.HasPrefix(e.Key(), "words") {
			continue // these have another spelling, or no meaning, for Exim
		}
		for i := range l {
			if !strings.Contains(l[i], "@") {
				l[i] += "@" + domain
			}
		}
		slices.Sort(l)
		addresses, want = append(addresses, e.Key()), append(want, strings.Join(l, ", "))
	}
	for i, got := range exim(t, dir, "$local_part@$domain", path, addresses) {
		if got != want[i] {
			t.Errorf("%s is %s, and for Exim %s", addresses[i], want[i], got)
		}
	}
}

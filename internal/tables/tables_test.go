package tables

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/addr"
	"postamt/internal/route"
)

// site is a directory with files of tables, a clock that the test moves, and what was reported.
type site struct {
	t   *testing.T
	dir string

	mu    sync.Mutex
	clock time.Time
	said  []string
}

func newSite(t *testing.T) *site {
	return &site{t: t, dir: t.TempDir(), clock: time.Now().Truncate(time.Second)}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

func (s *site) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, strings.ReplaceAll(err.Error(), s.dir+"/", ""))
}

// heard is what was reported since the last call.
func (s *site) heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := strings.Join(s.said, "\n")
	s.said = nil
	return l
}

func (s *site) expect(want ...string) {
	s.t.Helper()
	if got := s.heard(); got != strings.Join(want, "\n") {
		s.t.Errorf("reported\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// write writes a file in place; by the clock of the test it is being written now.
func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.touch(name)
}

func (s *site) touch(name string) {
	s.t.Helper()
	if err := os.Chtimes(s.path(name), s.now(), s.now()); err != nil {
		s.t.Fatal(err)
	}
}

// replace writes a file beside it and renames it over.
func (s *site) replace(name, text string) {
	s.t.Helper()
	s.write(name+".new", text)
	if err := os.Rename(s.path(name+".new"), s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) files() Files {
	return Files{
		LocalDomains: Domains{Names: []string{"host.example", "localhost"}},
		Aliases:      []string{s.path("aliases")}, Users: s.path("users"),
		Optional:   []string{s.path("aliases"), s.path("users")},
		Delimiters: "+", Postmaster: "root@remote.example",
	}
}

func (s *site) open(f Files) *Set {
	s.t.Helper()
	set, errs := open(f, s.report, s.now)
	if len(errs) > 0 {
		s.t.Fatal(errs)
	}
	return set
}

func kindOf(t *testing.T, set *Set, a string) route.Kind {
	t.Helper()
	m, err := addr.Parse(a, true)
	if err != nil {
		t.Fatal(err)
	}
	return set.Current().Resolve(m).Kind
}

func TestFollowsFiles(t *testing.T) {
	s := newSite(t)
	set := s.open(s.files()) // both files are missing, and may be
	s.expect()
	check := func(a string, want route.Kind) {
		t.Helper()
		if got := kindOf(t, set, a); got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
	check("bob@host.example", route.Refuse)

	s.write("users", "bob:x:1000:1000::/home/bob\n")
	check("bob@host.example", route.Refuse) // not looked at twice in a second
	s.pass(time.Second)
	check("bob@host.example", route.Mailbox)
	if u, ok, err := set.Users().Lookup("bob"); !ok || err != nil || u.Home != "/home/bob" {
		t.Error(u, ok, err)
	}

	s.replace("aliases", "team: bob\nbad..one: x\n")
	s.pass(time.Second)
	check("team@localhost", route.Alias)
	s.expect(`aliases:2:1: not a name: "bad..one"`)

	// Written in place: not before it has rested.
	s.pass(time.Minute)
	s.write("aliases", "team: bob\nnew: bob\n")
	check("new@localhost", route.Refuse)
	s.pass(time.Second / 2)
	s.touch("aliases")
	check("new@localhost", route.Refuse)
	s.pass(time.Second / 2)
	check("new@localhost", route.Refuse)
	s.pass(time.Second)
	check("new@localhost", route.Alias)
	s.expect()

	// Replaced: at once.
	s.replace("aliases", "other: bob\n")
	s.pass(time.Second)
	check("new@localhost", route.Refuse)
	check("other@localhost", route.Alias)

	// Touched: the tables stay the very same.
	before := set.Current()
	s.pass(time.Hour)
	s.touch("aliases")
	s.pass(time.Hour)
	if set.Current() != before {
		t.Error("a file with the same text made new tables")
	}
	s.expect()
}

func TestQ22_KeepsTheLastGoodTable(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "team: bob\n")
	s.write("users", "bob\n")
	set := s.open(s.files())
	alive := func(what string) {
		t.Helper()
		for range 3 {
			s.pass(2 * time.Second)
			if k := kindOf(t, set, "team@host.example"); k != route.Alias {
				t.Errorf("%s: team is %v", what, k)
			}
			if k := kindOf(t, set, "bob@host.example"); k != route.Mailbox {
				t.Errorf("%s: bob is %v", what, k)
			}
		}
	}
	stays := ": the last good state stays in force"

	s.replace("aliases", "team: bob\n\x00")
	alive("NUL")
	s.expect("aliases:2: NUL: this is not a text file" + stays)
	s.replace("aliases", "t..m: bob\n")
	alive("nothing good")
	s.expect(`aliases:1:1: not a name: "t..m" (and there is no good entry)` + stays)
	os.Remove(s.path("aliases"))
	alive("gone")
	s.expect("stat aliases: no such file or directory" + stays)
	s.replace("aliases", "team: bob\n")
	alive("back")
	s.expect()
	os.Remove(s.path("aliases"))
	alive("gone again")
	s.expect("stat aliases: no such file or directory" + stays)
	if err := os.Mkdir(s.path("aliases"), 0o755); err != nil {
		t.Fatal(err)
	}
	alive("a directory")
	s.expect("aliases: not a regular file" + stays)
	os.Remove(s.path("aliases"))
	if err := unix.Mkfifo(s.path("aliases"), 0o644); err != nil {
		t.Fatal(err)
	}
	alive("a FIFO")
	s.expect() // it was not a regular file before
	os.Remove(s.path("aliases"))
	s.write("aliases", "x: y\n")
	os.Chmod(s.path("aliases"), 0o646)
	alive("writable by everyone")
	s.expect("aliases: writable by everyone (chmod o-w mends it)" + stays)
	os.Truncate(s.path("aliases"), 1<<30)
	os.Chmod(s.path("aliases"), 0o644)
	alive("large")
	s.expect("aliases: larger than 256 MiB" + stays)
	s.replace("users", "/:x\n")
	alive("users")
	s.expect(`users:1: user name "/": has a character that no name may have (and there is no good line)` + stays)
	s.replace("aliases", "new: bob\n")
	s.replace("users", "bob\ncarol\n")
	s.pass(2 * time.Second)
	if kindOf(t, set, "carol@host.example") != route.Mailbox || kindOf(t, set, "new@host.example") != route.Alias || kindOf(t, set, "team@host.example") != route.Refuse {
		t.Error("mended files are not taken")
	}
	s.expect()
}

func TestQ22_AllErrorsAtStart(t *testing.T) {
	s := newSite(t)
	s.write("users", "bob\n/x:y\n")
	s.write("virtual", "\x00")
	s.write("domains", "-x\n")
	f := s.files()
	f.VirtualAliases = []string{s.path("virtual")}
	f.Routes = s.path("routes")
	f.VirtualDomains.Files = []string{s.path("domains")}
	f.Smarthost, f.Postmaster = "[", "a b"
	f.RelayDomains.Names = []string{"a_b"}
	set, errs := open(f, s.report, s.now)
	var got []string
	for _, e := range errs {
		got = append(got, strings.ReplaceAll(e.Error(), s.dir+"/", ""))
	}
	want := []string{
		`domains:1: syntax error in domain of address: "-x" (and there is no good line)`,
		"virtual:1: NUL: this is not a text file",
		"stat routes: no such file or directory",
		`relay_domains: syntax error in domain of address: "a_b"`,
		`smarthost: "[": [host] or [host]:port is wanted`,
		`postmaster: "a b" is neither an address nor a name`,
	}
	if set != nil || !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	s.expect(`users:2: user name "/x": has a character that no name may have`)
	if !errors.Is(errs[2], os.ErrNotExist) {
		t.Error("a file that somebody named must exist")
	}
}

func TestContradictions(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "a: b\n")
	s.write("more", "# more\nA: c\nd: e\n")
	s.write("domains", "virt.example # one\n\nLOCALHOST\nrelay.example\n")
	f := s.files()
	f.Aliases = append(f.Aliases, s.path("more"))
	f.VirtualDomains.Files = []string{s.path("domains")}
	f.RelayDomains.Names = []string{"relay.example", "Bücher.example"}
	f.Postmaster = "postmaster"
	set := s.open(f)
	s.expect(`more:2:1: "a" is a key in aliases:1 already; the first one holds`,
		"domains:3: localhost is in local_domains too, which goes first",
		"relay_domains: relay.example is in virtual_domains too, which goes first",
		"there is no postmaster: neither an alias nor a user, and the key postmaster names nobody else; mail for postmaster waits")
	if v := set.Current().Resolve(addr.Mailbox{Local: "x", Domain: "bücher.example"}); v.Kind != route.Remote || !v.Ours || v.Source.String() != "relay_domains" {
		t.Errorf("%+v", v)
	}
	if v := set.Current().Resolve(addr.Mailbox{Local: "x", Domain: "virt.example"}); v.Source.String() != s.path("domains")+":1" {
		t.Errorf("%v", v.Source)
	}
	if set.Current().LocalDomain != "host.example" {
		t.Error(set.Current().LocalDomain)
	}
	// Said once, until it changes.
	s.replace("aliases", "a: b\nz: y\n")
	s.pass(2 * time.Second)
	set.Current()
	s.expect()
	s.replace("aliases", "z: y\npostmaster: x\n")
	s.pass(2 * time.Second)
	set.Current()
	if got := s.heard(); strings.Contains(got, "more:2") || strings.Contains(got, "no postmaster") || !strings.Contains(got, "localhost") {
		t.Error(got)
	}
}

func TestD02_ListFiles(t *testing.T) {
	s := newSite(t)
	var b strings.Builder
	for _, n := range []string{"good", "self", "fifo", "dir", "huge", "world", "group", "gone", "nul", "shadow", "link"} {
		fmt.Fprintf(&b, "%s: :include:%s\n", n, s.path("l."+n))
	}
	s.write("aliases", b.String())
	s.write("users", "alice\nbob\n")
	s.write("l.good", "# members\nalice, bob\nx@remote.example\n|cmd\n")
	s.write("l.self", "alice\n:include:"+s.path("l.self")+"\n")
	if err := unix.Mkfifo(s.path("l.fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Mkdir(s.path("l.dir"), 0o755)
	s.write("l.huge", "")
	os.Truncate(s.path("l.huge"), 1<<30)
	s.write("l.world", "alice\n")
	os.Chmod(s.path("l.world"), 0o646)
	s.write("l.group", "alice\n")
	os.Chmod(s.path("l.group"), 0o664)
	s.write("l.nul", "alice\n\x00")
	s.write("l.shadow", "alice\n")
	os.Chmod(s.path("l.shadow"), 0)
	os.Symlink("/dev/zero", s.path("l.link"))
	set := s.open(s.files())
	limits := route.Limits{Depth: 20, Count: 1000}
	ends := func(name string) string {
		x, err := set.Current().Expand(addr.Mailbox{Local: name, Domain: "host.example"}, limits)
		if err != nil {
			return err.Error()
		}
		var l []string
		for _, f := range x.Finals {
			if f.Reply != nil {
				l = append(l, f.Reply.Enhanced.String())
			} else {
				l = append(l, f.Addr.Local)
			}
		}
		return strings.Join(l, " ")
	}
	const unreadable = "451 4.3.0 a list file cannot be read now"
	for _, tt := range []struct{ name, want, said string }{
		{"good", "alice bob x 5.1.3", "l.good:4:1: a command or file in a list file"},
		{"self", "alice 5.4.6", ""},
		{"fifo", unreadable, "l.fifo: not a regular file"},
		{"dir", unreadable, "l.dir: not a regular file"},
		{"huge", unreadable, "l.huge: larger than 16 MiB"},
		{"world", unreadable, "l.world: writable by everyone (chmod o-w mends it)"},
		{"group", unreadable, "l.group: writable by its group (chmod g-w mends it)"},
		{"gone", unreadable, "stat l.gone: no such file or directory"},
		{"nul", unreadable, "l.nul:2: NUL: this is not a text file"},
		{"link", unreadable, "l.link: not a regular file"},
	} {
		for range 2 {
			if got := ends(tt.name); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
			s.pass(2 * time.Second)
		}
		if got := s.heard(); got != tt.said { // once
			t.Errorf("%s: reported %q, want %q", tt.name, got, tt.said)
		}
	}
	if os.Geteuid() != 0 {
		if got := ends("shadow"); got != unreadable {
			t.Error(got)
		}
		s.heard()
	}

	// Lists follow their files.
	s.replace("l.good", "bob\n")
	if got := ends("good"); got != "bob" {
		t.Errorf("replaced: %s", got)
	}
	s.replace("l.good", "alice\n")
	if got := ends("good"); got != "bob" {
		t.Errorf("looked at twice in a second: %s", got)
	}
	s.pass(time.Second)
	if got := ends("good"); got != "alice" {
		t.Errorf("replaced again: %s", got)
	}
	os.Chmod(s.path("l.world"), 0o644)
	s.pass(time.Second)
	if got := ends("world"); got != "alice" {
		t.Errorf("mended: %s", got)
	}
	s.write("l.gone", "bob\n")
	s.pass(time.Second)
	if got := ends("gone"); got != "bob" {
		t.Errorf("appeared: %s", got)
	}
	os.Remove(s.path("l.good"))
	s.pass(time.Second)
	if got := ends("good"); got != unreadable {
		t.Errorf("disappeared: %s", got)
	}
	if _, err := set.lists.List("relative"); err == nil {
		t.Error("a relative path is read")
	}
}

func TestListCacheIsBounded(t *testing.T) {
	s := newSite(t)
	set := s.open(s.files())
	text := "alice\n" + strings.Repeat("# a long list\n", MaxList/14-1)
	for i := range 6 {
		s.write("l", text)
		if err := os.Rename(s.path("l"), s.path(fmt.Sprint("l", i))); err != nil {
			t.Fatal(err)
		}
		if l, err := set.lists.List(s.path(fmt.Sprint("l", i))); err != nil || len(l.Targets) != 1 {
			t.Fatal(len(l.Targets), err)
		}
		if set.lists.size > maxCached || set.lists.size <= 0 {
			t.Fatalf("%d octets cached", set.lists.size)
		}
	}
}

func TestConcurrent(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "team: alice\n")
	s.write("users", "alice\n")
	f := s.files()
	set := s.open(f)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				x, err := set.Current().Expand(addr.Mailbox{Local: "team", Domain: "localhost"}, route.Limits{Depth: 20, Count: 1000})
				if err != nil || len(x.Finals) == 0 || x.Finals[0].User != "alice" {
					t.Error(x, err)
					return
				}
			}
		})
	}
	for i := range 200 {
		s.replace("aliases", fmt.Sprintf("team: alice, x%d@remote.example\n", i))
		s.pass(time.Second)
	}
	close(stop)
	readers.Wait()
	s.pass(time.Second)
	x, _ := set.Current().Expand(addr.Mailbox{Local: "team", Domain: "localhost"}, route.Limits{Depth: 20, Count: 1000})
	if len(x.Finals) != 2 || x.Finals[1].Addr.Local != "x199" {
		t.Error(x.Finals)
	}
}

func TestMailboxPathDoesNotAllocate(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "team: alice\n")
	s.write("users", "alice\nvera@virt.example\n")
	f := s.files()
	f.VirtualDomains.Names = []string{"virt.example"}
	set := s.open(f)
	for _, a := range []string{"alice@host.example", "Alice+tag@localhost", "vera@virt.example"} {
		m, _ := addr.Parse(a, false)
		if n := testing.AllocsPerRun(100, func() { set.Current().Resolve(m) }); n > 0 {
			t.Errorf("%s: %v allocations", a, n)
		}
	}
}

func BenchmarkCurrentResolve(b *testing.B) {
	dir := b.TempDir()
	os.WriteFile(filepath.Join(dir, "users"), []byte("alice\n"), 0o644)
	os.WriteFile(filepath.Join(dir, "aliases"), []byte("team: alice\n"), 0o644)
	set, errs := Open(Files{LocalDomains: Domains{Names: []string{"host.example"}}, Aliases: []string{filepath.Join(dir, "aliases")}, Users: filepath.Join(dir, "users"), Delimiters: "+"}, nil)
	if errs != nil {
		b.Fatal(errs)
	}
	m := addr.Mailbox{Local: "alice", Domain: "host.example"}
	b.ReportAllocs()
	for b.Loop() {
		set.Current().Resolve(m)
	}
}

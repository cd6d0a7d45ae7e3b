package tables

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/durable"
	"postamt/internal/route"
)

func (s *site) compile(name string) {
	s.t.Helper()
	if _, err := Compile(s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

// old gives a file a time long ago.
func (s *site) old(name string) {
	s.t.Helper()
	at := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.path(name), at, at); err != nil {
		s.t.Fatal(err)
	}
}

func isCompiled(set *Set) bool { return set.Current().Aliases.IsCompiled() }

const someAliases = "alice: alice@remote.example\nbob: :fail: gone\nbob: x@y.example\nlist: :include:/nosuch/list\n: nobody\nodd: @\n"

func TestCompiledIsUsed(t *testing.T) {
	s := newSite(t)
	s.write("aliases", someAliases)
	set := s.open(s.files())
	said := s.heard()
	lists := fmt.Sprint(set.Lists())
	s.heard() // of the list
	s.compile("aliases")
	set = s.open(s.files())
	if !isCompiled(set) {
		t.Fatal("the text is read")
	}
	s.expect(said)
	if got := fmt.Sprint(set.Lists()); got != lists || got != "[/nosuch/list]" {
		t.Errorf("lists are %s, not %s", got, lists)
	}
	s.heard()
	for a, want := range map[string]route.Kind{"alice@host.example": route.Alias, "bob@host.example": route.Alias, "nobody@host.example": route.Refuse, "ALICE+tag@host.example": route.Alias} {
		if got := kindOf(t, set, a); got != want {
			t.Errorf("%s is %v", a, got)
		}
	}
}

// Nothing but the text decides whether what is compiled is true.
func TestCompiledOfAnotherTextIsNotBelieved(t *testing.T) {
	const stale = "aliases.cdb: warning: made of another text; the text is read instead, until newaliases makes it anew"
	const after = "alexa: alice@remote.example\n"
	for name, change := range map[string]func(s *site){
		"written in place, with the old time": func(s *site) {
			info, _ := os.Stat(s.path("aliases"))
			s.write("aliases", after)
			os.Chtimes(s.path("aliases"), info.ModTime(), info.ModTime())
		},
		"an older file moved there": func(s *site) {
			s.write("x", after)
			s.old("x")
			os.Rename(s.path("x"), s.path("aliases"))
		},
		"from the future":            func(s *site) { s.pass(time.Hour); s.write("aliases", after); s.pass(-time.Hour) },
		"written before it was read": func(s *site) { s.replace("aliases", after) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write("aliases", "alice: alice@remote.example\n")
			s.compile("aliases")
			c, err := openCompiled(s.path("aliases"))
			if state, _, serr := stat(s.path("aliases")); err != nil || serr != nil || c.from.State != state {
				t.Fatal(err, serr, c.from)
			}
			change(s)
			set := s.open(s.files())
			if kindOf(t, set, "alice@host.example") != route.Refuse {
				t.Errorf("the old text holds")
			}
			s.expect(stale)
		})
	}
}

// A text that is written again and again, as fast as it is compiled, is never taken for another of its size.
func TestCompiledWithinAGrain(t *testing.T) {
	s := newSite(t)
	for i := range 50 {
		s.t.Helper()
		if err := os.WriteFile(s.path("aliases"), fmt.Appendf(nil, "alice%d: x@remote.example\n", i%10), 0o644); err != nil {
			t.Fatal(err)
		}
		s.compile("aliases")
		next := fmt.Sprint("alice", (i+1)%10)
		if err := os.WriteFile(s.path("aliases"), []byte(next+": x@remote.example\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if set := s.open(s.files()); kindOf(t, set, next+"@host.example") != route.Alias {
			t.Fatalf("%d: the old text holds", i)
		}
	}
}

// The state of the text may be another and the text the same.
func TestCompiledOfACopy(t *testing.T) {
	s := newSite(t)
	s.write("aliases", someAliases)
	s.old("aliases")
	s.compile("aliases")
	s.replace("aliases", someAliases)
	if set := s.open(s.files()); !isCompiled(set) {
		t.Error("the text is read")
	}
}

// A running program follows both files.
func TestCompiledComesAndGoes(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "alice: alice@remote.example\nbob: bob@remote.example\n")
	set := s.open(s.files())
	step := func(what string, compiled bool, a string, kind route.Kind, heard ...string) {
		t.Helper()
		s.pass(interval)
		if got := isCompiled(set); got != compiled {
			t.Errorf("%s: compiled: %t", what, got)
		}
		if got := kindOf(t, set, a); got != kind {
			t.Errorf("%s: %s is %v", what, a, got)
		}
		s.expect(heard...)
	}
	s.compile("aliases")
	step("built", true, "alice@host.example", route.Alias)
	s.compile("aliases")
	step("built again", true, "alice@host.example", route.Alias)
	s.replace("aliases", "alice: alice@remote.example\n")
	step("another text", false, "bob@host.example", route.Refuse, "aliases.cdb: warning: made of another text; the text is read instead, until newaliases makes it anew")
	step("and nothing new", false, "bob@host.example", route.Refuse)
	s.compile("aliases")
	step("built of it", true, "alice@host.example", route.Alias)
	os.Remove(s.path("aliases.cdb"))
	step("removed", false, "alice@host.example", route.Alias)
	s.compile("aliases")
	step("built", true, "alice@host.example", route.Alias)
	os.Chmod(s.path("aliases.cdb"), 0o664)
	step("others may write it", false, "alice@host.example", route.Alias, "aliases.cdb: warning: others than its owner may write it; the text is read instead, until newaliases makes it anew")
	s.write("aliases.cdb", "x")
	step("no cdb", false, "alice@host.example", route.Alias, "aliases.cdb: warning: not a whole cdb: 1 octets; the text is read instead, until newaliases makes it anew")
	s.compile("aliases")
	step("built", true, "alice@host.example", route.Alias)
	os.Remove(s.path("aliases"))
	step("no text", true, "alice@host.example", route.Alias, "stat "+"aliases: no such file or directory: the last good state stays in force")
}

// Who cuts the file that is in use delays mail, and no more.
func TestCompiledIsCut(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "alice: alice@remote.example\n")
	s.compile("aliases")
	set := s.open(s.files())
	if err := os.Truncate(s.path("aliases.cdb"), 2100); err != nil {
		t.Fatal(err)
	}
	v := set.Current().Resolve(addr.Mailbox{Local: "alice", Domain: "host.example"})
	if v.Kind != route.Alias || len(v.Targets) != 1 || v.Targets[0].Kind != alias.Bad {
		t.Errorf("alice is %v %v", v.Kind, v.Targets)
	}
	s.pass(interval)
	if kindOf(t, set, "alice@host.example") != route.Alias || kindOf(t, set, "nobody@host.example") != route.Refuse || isCompiled(set) {
		t.Error("the text does not hold")
	}
	if got := s.heard(); !strings.HasPrefix(got, "aliases.cdb: warning: ") || strings.Contains(got, "\n") {
		t.Error(got)
	}
	// One that cannot be read is not tried again as long as it stays so.
	s.compile("aliases")
	s.pass(interval)
	if !isCompiled(set) {
		t.Fatal("not compiled")
	}
	c := sourceOf(set).aliases
	info, _ := os.Stat(s.path("aliases.cdb"))
	os.Chtimes(s.path("aliases.cdb"), info.ModTime().Add(time.Second), info.ModTime().Add(time.Second))
	c.Lookup("alice", "")
	if c.Err() == nil {
		t.Fatal("no error")
	}
	os.Chtimes(s.path("aliases.cdb"), info.ModTime(), info.ModTime())
	s.pass(interval)
	if isCompiled(set) {
		t.Error("compiled")
	}
}

func sourceOf(set *Set) *source {
	for _, src := range set.sources {
		if src.kind == localAliases {
			return src
		}
	}
	return nil
}

// Half a text that rests for less than a second is not read because of the other file.
func TestCompiledBesideHalfAText(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "alice: alice@remote.example\n")
	set := s.open(s.files())
	s.compile("aliases")
	s.pass(interval)
	s.write("aliases", "al: half\n")
	if kindOf(t, set, "alice@host.example") != route.Alias {
		t.Error("half a text is read")
	}
	s.pass(2 * interval)
	if kindOf(t, set, "alice@host.example") != route.Refuse {
		t.Error("the text is not read")
	}
}

func TestCompiledOfOthers(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "alice: alice@remote.example\n")
	empty := make([]byte, 2048) // what "cdb -c" makes of nothing
	for i := 0; i < len(empty); i += 8 {
		empty[i+1] = 8
	}
	if err := os.WriteFile(s.path("aliases.cdb"), empty, 0o644); err != nil {
		t.Fatal(err)
	}
	s.open(s.files())
	s.expect("aliases.cdb: warning: not made by postamt; the text is read instead")
	if _, err := Compile(s.path("aliases")); !errors.Is(err, alias.ErrForeign) {
		t.Error(err)
	}
	if os.Getuid() != 0 {
		return
	}
	os.Remove(s.path("aliases.cdb"))
	s.compile("aliases")
	os.Chown(s.path("aliases.cdb"), 12345, -1)
	if isCompiled(s.open(s.files())) {
		t.Error("a stranger's file is believed")
	}
	s.expect("aliases.cdb: warning: it belongs to uid 12345, the text to 0; the text is read instead, until newaliases makes it anew")
	os.Chown(s.path("aliases"), 12345, 12346)
	os.Chmod(s.path("aliases"), 0o640)
	s.compile("aliases")
	var st unix.Stat_t
	if err := unix.Stat(s.path("aliases.cdb"), &st); err != nil || st.Uid != 12345 || st.Gid != 12346 || st.Mode&0o7777 != 0o640 {
		t.Error(err, st.Uid, st.Gid, st.Mode)
	}
}

func TestCompileSays(t *testing.T) {
	s := newSite(t)
	for text, bad := range map[string]bool{"": false, "alice: bob\n: x\n": false, "@@: x\n": true, "a: b\x00\n": true} {
		s.write("aliases", text)
		_, want, werr := alias.Parse(s.path("aliases"), text)
		got, err := Compile(s.path("aliases"))
		if errors.Is(err, ErrText) != bad || bad != (werr != nil) || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: %v, %v, not %v", text, got, err, want)
		}
	}
	os.Chmod(s.path("aliases"), 0o666)
	if _, err := Compile(s.path("aliases")); !errors.Is(err, ErrText) {
		t.Error(err)
	}
	if _, err := Compile(s.path("nosuch")); !errors.Is(err, ErrText) || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// F01: a step that fails leaves the old file, and nothing else.
func TestCompileFails(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "alice: bob\n")
	s.compile("aliases")
	s.write("aliases", "alice: carol\n")
	for _, op := range []durable.Op{durable.OpCreate, durable.OpChmod, durable.OpSync, durable.OpClose, durable.OpRename} {
		before, _ := os.ReadFile(s.path("aliases.cdb"))
		ops := &durable.Ops{Fault: func(at durable.Op, _ string) error {
			if at == op {
				return unix.EIO
			}
			return nil
		}}
		if _, err := compile(s.path("aliases"), ops); !errors.Is(err, unix.EIO) || errors.Is(err, ErrText) {
			t.Errorf("%s: %v", op, err)
		}
		after, _ := os.ReadFile(s.path("aliases.cdb"))
		if names, _ := filepath.Glob(s.path(".*")); string(before) != string(after) || len(names) != 0 {
			t.Errorf("%s: left %q", op, names)
		}
	}
}

// Builders, an editor and a reader at once: in the end what is compiled is of the text that is there.
func TestCompileTogether(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "alice: 0@remote.example\n")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 25 {
				if err := durable.WriteFile(s.path("aliases"), fmt.Appendf(nil, "alice: %d@remote.example\n", i), 0o644); err != nil {
					t.Error(err)
				}
				if _, err := Compile(s.path("aliases")); err != nil && !errors.Is(err, ErrText) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if set := s.open(s.files()); !isCompiled(set) {
		t.Error("what is compiled is of another text")
	}
}

// Files that are replaced are closed when nobody has their table any more.
func TestCompiledIsClosed(t *testing.T) {
	s := newSite(t)
	s.write("aliases", "alice: bob\n")
	set := s.open(s.files())
	for range 50 {
		s.compile("aliases")
		s.pass(interval)
		if !isCompiled(set) {
			t.Fatal("not compiled")
		}
	}
	for range 100 {
		runtime.GC()
		open := 0
		links, _ := filepath.Glob("/proc/self/fd/*")
		for _, l := range links {
			if to, _ := os.Readlink(l); strings.Contains(to, s.path("aliases.cdb")) {
				open++
			}
		}
		if open <= 2 {
			return
		}
		runtime.Gosched()
	}
	t.Error("old files stay open")
}

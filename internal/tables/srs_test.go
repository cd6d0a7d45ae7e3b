package tables

import (
	"os"
	"strings"
	"testing"
	"time"

	"postamt/internal/addr"
	"postamt/internal/route"
)

func TestSRSKeys(t *testing.T) {
	const key = "0123456789abcdef0123\n"
	for name, c := range map[string]struct {
		text   string
		mode   os.FileMode
		domain string
		want   string // "" it is good
	}{
		"good":                   {"# keys\n" + key + "old\n", 0o600, "ours.example", ""},
		"read by a group":        {key, 0o640, "ours.example", ""},
		"read by everyone":       {key, 0o644, "ours.example", "readable by everyone (chmod o-r mends it)"},
		"written by a group":     {key, 0o660, "ours.example", "writable by its group (chmod g-w mends it)"},
		"written by everyone":    {key, 0o602, "ours.example", "writable by everyone (chmod o-w mends it)"},
		"empty":                  {"\n", 0o600, "ours.example", "no key"},
		"short":                  {"short\n", 0o600, "ours.example", "shorter than 16"},
		"large":                  {strings.Repeat(key, 60000), 0o600, "ours.example", "larger than 1 MiB"},
		"no domain":              {key, 0o600, "", "srs"},
		"a domain in its script": {key, 0o600, "b\u00fccher.example", ""},
	} {
		s := newSite(t)
		s.write("srs", c.text)
		if err := os.Chmod(s.path("srs"), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := openSRS(s.path("srs"), c.domain, s.now)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// Files that are missing are told with the others.
	s := newSite(t)
	f := s.files()
	f.SRSKeys, f.SRSDomain = s.path("missing"), "ours.example"
	if _, errs := Open(f, s.report); len(errs) != 1 || !os.IsNotExist(errs[0]) {
		t.Errorf("a missing file: %v", errs)
	}
	f.SRSKeys = s.dir
	if _, errs := Open(f, s.report); len(errs) != 1 || !strings.Contains(errs[0].Error(), "not a regular file") {
		t.Errorf("a directory: %v", errs)
	}
}

func TestSRSReturns(t *testing.T) {
	s := newSite(t)
	s.write("srs", "0123456789abcdef0123\n")
	os.Chmod(s.path("srs"), 0o600)
	f := s.files()
	f.SRSKeys, f.SRSDomain = s.path("srs"), "b\u00fccher.example"
	set := s.open(f)
	r := set.Current().Returns
	from := r.Rewrite(addr.Mailbox{Local: "alice", Domain: "a.example"})
	if !strings.HasPrefix(from.Local, "SRS0=") {
		t.Fatalf("it is %s", from)
	}
	v := set.Current().Resolve(addr.Mailbox{Local: strings.ToLower(from.Local), Domain: "xn--bcher-kva.example"})
	if v.Kind != route.Alias || len(v.Targets) != 1 || v.Targets[0].Addr.String() != "alice@a.example" {
		t.Errorf("it leads to %v, %v", v.Kind, v.Targets)
	}
	s.pass(30 * 24 * time.Hour)
	if v := set.Current().Resolve(from); v.Kind != route.Refuse || v.Reply.Enhanced.String() != "5.1.1" || !strings.Contains(v.Reply.Error(), "too old") {
		t.Errorf("a month later it is %v, %v", v.Kind, v.Reply)
	}
	// What does not fit is left as it is.
	long := addr.Mailbox{Local: "alice", Domain: strings.Repeat("long.", 12) + "example"}
	if got := r.Rewrite(long); got != long {
		t.Errorf("%s", got)
	}
	for _, local := range []string{"srs0", "SRS0=x", "SRS0=aaaa=bb=a.example=alice", "alice"} {
		to, ok, err := r.Return(local, "bucher.example")
		if ok || err != nil || !to.IsNull() {
			t.Errorf("%s at another domain: %s, %v, %v", local, to, ok, err)
		}
	}
}

// Mail that has come by us twice, with another forwarder between: the report goes back all the way, and not in a circle.
func TestSRSTwice(t *testing.T) {
	s := newSite(t)
	s.write("srs", "0123456789abcdef0123\n")
	os.Chmod(s.path("srs"), 0o600)
	r, err := openSRS(s.path("srs"), "ours.example", s.now)
	if err != nil {
		t.Fatal(err)
	}
	first := r.Rewrite(addr.Mailbox{Local: "x", Domain: "a.example"})
	between := addr.Mailbox{Local: "SRS1=AAAA=ours.example=" + strings.TrimPrefix(first.Local, "SRS0"), Domain: "fw.example"}
	again := r.Rewrite(between)
	if !strings.HasPrefix(again.Local, "SRS1=") || again.Domain != "ours.example" {
		t.Fatal(again)
	}
	if m, ok, err := r.Return(again.Local, again.Domain); err != nil || !ok || m.String() != "x@a.example" {
		t.Errorf("%v, %v, %v", m, ok, err)
	}
}

// A file that has changed hands is another.
func TestOwnerIsState(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	s := newSite(t)
	s.write("x", "a: b\n")
	before, err := os.Stat(s.path("x"))
	if err != nil || os.Chown(s.path("x"), 12345, -1) != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(s.path("x"))
	if err != nil || sameState(before, after) {
		t.Error("it is the same", err)
	}
}

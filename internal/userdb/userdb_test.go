package userdb

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	text := strings.Join([]string{
		"# users",
		"",
		"alice:{BLF-CRYPT}$2y$05$secret:1000:1000:Alice:/home/alice:/bin/sh:userdb_mail=maildir:~/mail:LAYOUT=Maildir++ userdb_quota_rule=*:storage=1G:messages=500 other=x",
		"Bob",
		"carol:x:::::: maildir=/var/mail/%d/%n quota=10M nologin allow_nets=192.0.2.0/24,2001:db8::1,local",
		"vera@Virt.example:x:5000:5000::/var/mail/virt.example/vera",
		"dave::4294967295",
		"../x:y",
		"erin:x:1:1::relative",
		"alice:second",
		"frank:x:1:1::/home/frank::userdb_mail=mbox:~/mail",
		"grace:x:1:1::/home/grace::maildir=~grace/x",
		"heidi:x:1:1::::maildir=~/x",
		"ivan:x::::::quota=5XB",
		"judy:x::::::allow_nets=192.0.2.0/33",
		"ken:x:::::: quota=1000S,50C nologin=no\r",
		"lee:x:::::: userdb_quota_rule=Trash:storage=+10% userdb_quota_rule=*:bytes=77",
		"mia\x01:x",
	}, "\n")
	tab, problems, err := Parse("users", text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}
	want := []string{
		`users:7: dave: uid: "4294967295" is not a number of a user or group`,
		`users:8: user name "../x": begins with . or -`,
		`users:9: erin: home "relative": not an absolute path`,
		`users:11: frank: userdb_mail: "mbox:~/mail": only maildir: is known`,
		`users:12: grace: user grace: maildir "~grace/x": ~ is the home, and / must follow it`,
		`users:13: heidi: user heidi: maildir "~/x": there is no home`,
		`users:14: ivan: quota: "5XB" is not a size`,
		`users:15: judy: allow_nets: "192.0.2.0/33" is not a network`,
		`users:18: user name "mia\x01": has a character that no name may have`,
		`users:10: alice is in line 3 already; the first one holds`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for name, want := range map[string]string{
		"alice":             "{alice 1000 1000 /home/alice ~/mail {1073741824 500} false [] 3}",
		"bob":               "{bob -1 -1   {0 0} false [] 4}",
		"carol":             "{carol -1 -1  /var/mail/%d/%n {10485760 0} true [192.0.2.0/24 2001:db8::1/128] 5}",
		"vera@virt.example": "{vera@virt.example 5000 5000 /var/mail/virt.example/vera  {0 0} false [] 6}",
		"ken":               "{ken -1 -1   {1000 50} false [] 16}",
		"lee":               "{lee -1 -1   {77 0} false [] 17}",
	} {
		u, ok, err := tab.Lookup(name)
		if got := fmt.Sprint(u); !ok || err != nil || got != want {
			t.Errorf("%s: %s %v %v, want %s", name, got, ok, err, want)
		}
	}
	// Broken lines are users whose mail waits.
	for _, name := range []string{"dave", "erin", "frank", "grace", "heidi", "ivan", "judy"} {
		if _, ok, err := tab.Lookup(name); !ok || err == nil {
			t.Errorf("%s: %v %v", name, ok, err)
		}
		if _, _, ok, err := tab.User(name, ""); !ok || err == nil {
			t.Errorf("%s: %v %v", name, ok, err)
		}
	}
	for _, tt := range []struct {
		local, domain, want string
		line                int
	}{{"ALICE", "", "alice", 3}, {"alice", "virt.example", "", 0}, {"Vera", "virt.example", "vera@virt.example", 6}, {"vera", "", "", 0},
		{"vera@virt.example", "", "", 0}, {"../x", "", "", 0}, {"", "", "", 0}, {"al\u0130ce", "", "", 0}, {"Jürgen", "", "", 0}, {"", "virt.example", "", 0}, {"alice:x", "", "", 0}, {strings.Repeat("x", 10000), "", "", 0}} {
		name, line, ok, err := tab.User(tt.local, tt.domain)
		if name != tt.want || line != tt.line || ok != (tt.want != "") || err != nil {
			t.Errorf("%s %s: %s %d %v %v", tt.local, tt.domain, name, line, ok, err)
		}
	}
	if strings.Contains(tab.lines, "secret") {
		t.Error("the table keeps password hashes")
	}
	if n := testing.AllocsPerRun(100, func() { tab.User("ALICE", ""); tab.User("vera", "virt.example") }); n > 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

func TestDoesNotParseAtAll(t *testing.T) {
	for text, want := range map[string]string{
		"alice:x\nb\x00b:y": "users:2: NUL: this is not a text file",
		"/x:y\n.z:y":        `users:1: user name "/x": has a character that no name may have (and there is no good line)`,
	} {
		if _, _, err := Parse("users", text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if tab, p, err := Parse("users", "\n# none yet\n"); err != nil || p != nil || tab.Len() != 0 {
		t.Error(p, err)
	}
	_, p, _ := Parse("users", "ok\nlong:"+strings.Repeat("x", MaxLine))
	if len(p) != 1 || p[0].Line != 2 {
		t.Error(p)
	}
	_, p, _ = Parse("users", "ok\n"+strings.Repeat("/:\n", 1000))
	if len(p) != maxProblems+1 {
		t.Error(len(p))
	}
	var none *Table
	if _, _, ok, _ := none.User("x", ""); ok || none.Len() != 0 || none.File() != "" {
		t.Error("nil table")
	}
}

func TestA05_Names(t *testing.T) {
	for _, name := range []string{
		"", "../x", "..", ".", ".hidden", "a/b", "a\x00b", "a\nb", "a\rb", "%s", "a%b", "a b", "trailing ", "\tx", "-rf", "a:b", "a\\b", `a"b`, "a<b", "a|b", "a;b", "a$b", "a`b", "~x",
		"*", "\u0130van", "\u0131van", "bac\u212aup", "\u017fam", "\xff\xfe", "a\u0085b", "a\u200bb", "a@", "@b.example", "a@b@c", "a@-b", "a@b/c", "a@..", "a@[192.0.2.1]", strings.Repeat("x", MaxName+1), "a\u2028b",
	} {
		if got, err := Canonical(name); err == nil {
			t.Errorf("%q is accepted as %q", name, got)
		} else if strings.ContainsAny(err.Error(), "\n\r\x00") || !utf8.ValidString(err.Error()) {
			t.Errorf("%q: unsafe message %q", name, err.Error())
		}
	}
	for name, want := range map[string]string{
		"Alice": "alice", "a.b-c_d+e": "a.b-c_d+e", "A@EXAMPLE.org": "a@example.org", "jürgen": "jürgen", "JÜRGEN@Bücher.example": "jürgen@xn--bcher-kva.example", "1000": "1000", "ΓΙΏΡΓΟΣ": "γιώργοσ", "γιώργος": "γιώργος", "a=b": "a=b",
	} {
		got, err := Canonical(name)
		if err != nil || got != want {
			t.Errorf("%q: %q %v", name, got, err)
		}
	}
}

func TestD10_Check(t *testing.T) {
	for _, tt := range []struct {
		uid, gid ID
		want     string
	}{
		{0, 100, "user x: uid 0: mail for root needs an alias"},
		{999, 999, "user x: uid 999 is below the least one, 1000"},
		{1000, 0, "user x: gid 0"},
		{1000, 100, ""},
		{NoID, NoID, ""},
		{NoID, 0, "user x: gid 0"},
	} {
		u := User{Name: "x", UID: tt.uid, GID: tt.gid}
		got := ""
		if err := u.Check(1000); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%d:%d: %q", tt.uid, tt.gid, got)
		}
	}
	if (&User{UID: 0}).Check(0) == nil {
		t.Error("root is never a user")
	}
}

func TestPlace(t *testing.T) {
	for _, tt := range []struct{ name, home, own, pattern, domain, want string }{
		{"alice", "/home/alice", "", "~/Maildir", "example.org", "/home/alice/Maildir"},
		{"alice", "/home/alice", "/var/mail/%n/", "~/Maildir", "example.org", "/var/mail/alice"},
		{"alice", "", "", "/var/mail/%d/%n", "example.org", "/var/mail/example.org/alice"},
		{"a@b.example", "", "", "/var/mail/%d/%n/%u", "example.org", "/var/mail/b.example/a/a@b.example"},
		{"alice", "/h", "", "%h/x%%y", "", "/h/x%y"},
		{"alice", "/h", "", "~", "", "/h"},
		{"alice", "", "", "~/Maildir", "x", ""},
		{"alice", "/h", "", "~bob/Maildir", "x", ""},
		{"alice", "/h", "", "Maildir", "x", ""},
		{"alice", "/h", "", "/x/%", "x", ""},
		{"alice", "/h", "", "/x/%q", "x", ""},
		{"alice", "/h", "", "/x/%d", "", ""},
		{"alice", "/h", "", "/x/%d", "../y", ""},
		{"alice", "/h", "", "", "x", ""},
	} {
		u := User{Name: tt.name, Home: tt.home, Maildir: tt.own}
		got, err := u.Place(tt.pattern, tt.domain)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%+v: %q %v", tt, got, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "1000": 1000, "1k": 1024, "2M": 2 << 20, "1GB": 1 << 30, "1t": 1 << 40, "5B": 5,
		"": -1, "M": -1, "-1": -1, "1.5G": -1, "9223372036854775807k": -1, "8388608T": -1, "B": -1} {
		n, err := parseSize(s)
		if err != nil {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d %v, want %d", s, n, err, want)
		}
	}
	if _, err := dovecotQuota("*:storage=9007199254740992", Quota{}); err == nil {
		t.Error("overflow")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"alice:x:1000:1000::/home/alice::maildir=~/x quota=1G", "a@b.example:::::/h", "x::::::: userdb_quota_rule=*:storage=1", "é:x\n\u0130:y", "n::::::allow_nets=::1/0,1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tab, _, err := Parse("users", text)
		if err != nil {
			return
		}
		for name := range tab.index {
			if again, err := Canonical(name); err != nil || again != name {
				t.Fatalf("%q becomes %q, %v", name, again, err)
			}
			if strings.ContainsAny(name, "/\x00\n: %") || name == ".." {
				t.Fatalf("%q", name)
			}
			local, domain, _ := strings.Cut(name, "@")
			if got, _, ok, _ := tab.User(local, domain); !ok || got != name {
				t.Fatalf("%q is not found", name)
			}
			u, ok, err := tab.Lookup(name)
			if !ok {
				t.Fatalf("%q is not found", name)
			}
			if err != nil {
				continue
			}
			if path, err := u.Place("/var/mail/%d/%n", "example.org"); err == nil && (path[0] != '/' || strings.Contains(path, "/../")) {
				t.Fatalf("%q: %s", name, path)
			}
		}
	})
}

func BenchmarkUser(b *testing.B) {
	var text strings.Builder
	for i := range 100000 {
		fmt.Fprintf(&text, "user%d:x:%d:100::/home/user%d\n", i, 1000+i, i)
	}
	tab, _, err := Parse("users", text.String())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		tab.User("user4711", "")
	}
}

func TestPasswordsOfTheirOwn(t *testing.T) {
	p, problems, err := ParsePasswords("shadow", "# hashes\r\n\nAlice:{PLAIN}one\r\nbob:{PLAIN}two:1000:x y:\nalice:{PLAIN}later\n/x:y\nlocked\n")
	if err != nil || len(problems) != 2 || problems[0].Line != 5 || problems[1].Line != 6 {
		t.Fatalf("%v, %v", problems, err)
	}
	for name, want := range map[string]string{"alice": "{PLAIN}one", "bob": "{PLAIN}two", "locked": "", "carol": ""} {
		if got, _ := p.Of(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, line := p.Of("bob"); line != 4 {
		t.Errorf("bob is in line %d", line)
	}
	for _, text := range []string{"a:\x00", "/x:y\n"} {
		if _, _, err := ParsePasswords("shadow", text); err == nil {
			t.Errorf("%q parses", text)
		}
	}
	if _, _, err := ParsePasswords("shadow", ""); err != nil {
		t.Error(err)
	}
}

func TestHashesThatShouldBeElsewhere(t *testing.T) {
	table, problems, err := ParseApart("users", "# users\na:x\nb\nc:*\nd:!\ne:{PLAIN}canary:1000\nf:$2y$canary\n")
	if err != nil || len(problems) != 1 || problems[0].Line != 6 || !strings.Contains(problems[0].Text, "; 2 lines") ||
		strings.Contains(problems[0].Text, "canary") {
		t.Errorf("%v, %v", problems, err)
	}
	if u, ok, err := table.Lookup("e"); !ok || err != nil || u.UID != 1000 || table.Password("e") != "" {
		t.Errorf("%+v, %v, %v", u, ok, err)
	}
	if _, problems, err := ParseApart("users", "a:x\nb::::::\n"); err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// Whatever the text is: names are canonical, of two the first, and no problem shows what stands behind the colon.
func FuzzPasswords(f *testing.F) {
	f.Add("alice:{PLAIN}one\nBOB:x:1000\n# c\nalice:two\n/x:y\n", "alice")
	f.Add("a\r\n:b\n\u0130:c\n", "a")
	f.Fuzz(func(t *testing.T, text, name string) {
		p, problems, err := ParsePasswords("shadow", text)
		if (p == nil) != (err != nil) || len(problems) > maxProblems+1 {
			t.Fatalf("%v, %v, %d problems", p, err, len(problems))
		}
		if stored, line := p.Of(name); line > 0 {
			if c, err := Canonical(name); err != nil || c != name {
				t.Errorf("%q is not canonical", name)
			}
			if strings.ContainsAny(stored, ":\n\x00") || line > strings.Count(text, "\n")+1 {
				t.Errorf("%q in line %d", stored, line)
			}
		}
	})
}

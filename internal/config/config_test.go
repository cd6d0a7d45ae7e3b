package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "postamt.conf")
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// The table, the default file and the page name the same keys with the same defaults in the same order.
func TestTableFilePage(t *testing.T) {
	type row struct{ name, def string }
	var table, file, page []row
	for _, k := range (&Config{}).keys() {
		table = append(table, row{k.name, k.def})
	}
	text, err := os.ReadFile("../../etc/postamt.conf")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if m := regexp.MustCompile(`^#([a-z0-9_]+)(?: (.*))?\n$`).FindStringSubmatch(line); m != nil {
			file = append(file, row{m[1], m[2]})
		} else if !strings.HasPrefix(line, "# ") && line != "\n" {
			t.Errorf("etc/postamt.conf: neither a key nor a comment: %q", line)
		}
	}
	text, err = os.ReadFile("../../man/postamt.conf.5")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if m := regexp.MustCompile(`^\.It Ic ([a-z0-9_]+)(?: (?:Ql|Pa) (.*))?\n$`).FindStringSubmatch(line); m != nil {
			page = append(page, row{m[1], m[2]})
		}
	}
	same := func(name string, rows []row) {
		for i := range max(len(rows), len(table)) {
			var a, b row
			if i < len(table) {
				a = table[i]
			}
			if i < len(rows) {
				b = rows[i]
			}
			if a != b {
				t.Fatalf("key %d: the table has %q, %s has %q", i+1, a, name, b)
			}
		}
	}
	same("etc/postamt.conf", file)
	same("man/postamt.conf.5", page)
}

// Each key sets exactly one exported field, each field but File has a key.
func TestEveryFieldHasAKey(t *testing.T) {
	c := &Config{}
	fields := map[uintptr]string{}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && f.Name != "File" {
			fields[v.Field(i).Addr().Pointer()] = f.Name
		}
	}
	for _, k := range c.keys() {
		p := reflect.ValueOf(k.val).Field(0).Pointer()
		if fields[p] == "" {
			t.Errorf("%s sets no field, or one that another key sets", k.name)
		}
		delete(fields, p)
	}
	for _, name := range fields {
		t.Errorf("field %s has no key", name)
	}
}

// Uncommenting the whole default file changes nothing.
func TestDefaultFileIsTheDefault(t *testing.T) {
	text, err := os.ReadFile("../../etc/postamt.conf")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	as := filepath.Join(dir, "as-is")
	un := filepath.Join(dir, "uncommented")
	all := regexp.MustCompile(`(?m)^#([a-z0-9_]+( |$))`).ReplaceAll(text, []byte("$1"))
	os.WriteFile(as, text, 0o644)
	os.WriteFile(un, all, 0o644)
	a, err := Load(as)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(un)
	if err != nil {
		t.Fatal(err)
	}
	a.File, b.File = "", ""
	a.named, b.named = nil, nil // lines, which only one of them has
	if !reflect.DeepEqual(a, b) {
		t.Errorf("as it is:\n%+v\nuncommented:\n%+v", a, b)
	}
	d := Default()
	if d.QueueDir != "/var/spool/postamt" || d.Users != "/etc/postamt/users" || d.ExpireAfter != 120*time.Hour ||
		d.MessageSizeLimit != 50<<20 || d.LocalTransport != (Endpoint{"unix", "/run/postamt/deliver.sock"}) ||
		len(d.SmtpdListen) != 3 || d.SmtpdListen[2] != (Listener{"unix", "/run/postamt/smtpd.sock", "local"}) {
		t.Errorf("defaults: %+v", d)
	}
}

func TestLoad(t *testing.T) {
	p := write(t, "\ufeff# a comment\r\n"+
		"hostname Mail.Example.ORG\n\n"+
		"  run_dir   sub/run  \n"+
		"smtpd_listen\t127.0.0.1:2525=mx [::1]:2525=submission unix:s=local unix:/abs/s=mx\n"+
		"relay_clients 192.0.2.1 10.0.0.0/8 2001:db8::/32 ::ffff:192.0.2.9\n"+
		"virtual_domains a.example /etc/more b.example c/d\n"+
		"retry_min 90s\nretry_max 1h\nexpire_after 1w\n"+
		"message_size_limit 10M\n"+
		"remote_loopback yes\n"+
		"recipient_delimiter\n"+
		"aliases aliases /etc/aliases\n"+
		"smarthost [relay.example]:587\n"+
		"local_transport lmtp:[::1]:24\n"+
		"dns_servers 127.0.0.1:5353 2001:db8::53\n"+
		"destination_concurrency 2\n"+
		"tls_min_version 1.3") // no line end
	c, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(p)
	if c.Hostname != "mail.example.org" {
		t.Errorf("hostname %q", c.Hostname)
	}
	want := []Listener{
		{"tcp4", "127.0.0.1:2525", "mx"}, {"tcp6", "[::1]:2525", "submission"},
		{"unix", dir + "/sub/run/s", "local"}, {"unix", "/abs/s", "mx"},
	}
	if !reflect.DeepEqual(c.SmtpdListen, want) {
		t.Errorf("listeners %v", c.SmtpdListen)
	}
	if c.LocalDomains.Names[0] != "mail.example.org" || c.LocalDomains.Names[len(c.LocalDomains.Names)-1] != "localhost" {
		t.Errorf("local domains %v", c.LocalDomains)
	}
	if d := c.VirtualDomains; !reflect.DeepEqual(d, Domains{[]string{"a.example", "b.example"}, []string{"/etc/more", dir + "/c/d"}}) {
		t.Errorf("virtual domains %v", d)
	}
	if c.RetryMin != 90*time.Second || c.RetryMax != time.Hour || c.ExpireAfter != 7*24*time.Hour || c.MessageSizeLimit != 10<<20 {
		t.Errorf("times %v %v %v, size %v", c.RetryMin, c.RetryMax, c.ExpireAfter, c.MessageSizeLimit)
	}
	if !c.RemoteLoopback || c.RecipientDelimiter != "" || c.TLSMinVersion != 0x0304 || c.DestinationConcurrencyStart != 2 {
		t.Errorf("%+v", c)
	}
	if !reflect.DeepEqual(c.Aliases, []string{dir + "/aliases", "/etc/aliases"}) {
		t.Errorf("aliases %v", c.Aliases)
	}
	if c.LocalTransport != (Endpoint{"tcp", "[::1]:24"}) || c.Smarthost != "[relay.example]:587" {
		t.Errorf("%v %v", c.LocalTransport, c.Smarthost)
	}
	if got := c.DNSServers; len(got) != 2 || got[0].String() != "127.0.0.1:5353" || got[1].String() != "[2001:db8::53]:53" {
		t.Errorf("dns %v", got)
	}
	for ip, in := range map[string]bool{
		"192.0.2.1": true, "192.0.2.2": false, "10.9.8.7": true, "::ffff:10.1.1.1": true, "2001:db8:1::1": true,
		"2001:db9::1": false, "192.0.2.9": true, "127.0.0.1": false, "2001:db8::1%eth0": true,
	} {
		if c.RelayClients.Contains(netip.MustParseAddr(ip)) != in {
			t.Errorf("relay client %s: want %v", ip, in)
		}
	}
}

// What is wrong with a line, and what is said about it.
func TestQ22_BadValues(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"retry_min 5x\n", `1: retry_min: "5x" is not a time`},
		{"\n#\nretry_min 0\n", "3: retry_min: must be more than 0"},
		{"retry_min 5\n", "is not a time"},
		{"retry_min -5m\n", "is not a time"},
		{"retry_min 99999999999999999999d\n", "is not a time"},
		{"expire_after 9999999w\n", "is not a time"},
		{"expire_after 9999w\n", "too long"},
		{"message_size_limit 99999999999g\n", "is not a size"},
		{"message_size_limit 1x\n", "is not a size"},
		{"message_size_limit\n", "is not a size"},
		{"recipient_limit 99\n", "too small (at least 100)"},
		{"recipient_limit 0x100\n", "is not a number"},
		{"recipient_limit 4294967296\n", "is not a number"},
		{"remote_port 65536\n", "is not a port"},
		{"remote_loopback true\n", "neither yes nor no"},
		{"remote_tls maybe\n", "none of: may no encrypt"},
		{"hostname a..b\n", "is not a domain"},
		{"hostname two words\n", "is not a domain"},
		{"local_domains a.example, b.example\n", "is not a domain"},
		{"relay_clients 10.0.0.1/8\n", "10.0.0.0/8 is the network"},
		{"relay_clients localhost\n", "is not a network"},
		{"smtpd_listen 25\n", "which kind?"},
		{"smtpd_listen 0.0.0.0:25=foo\n", "none of: mx"},
		{"smtpd_listen :25=mx\n", "neither ADDRESS:PORT"},
		{"smtpd_listen unix:=local\n", "a path is wanted"},
		{"smtpd_listen 127.0.0.1:25=local\n", "only a unix socket"},
		{"smtpd_listen 127.0.0.1:25=mx 127.0.0.1:25=submission\n", "twice"},
		{"smtpd_listen 127.0.0.1:465=submissions\n", "needs tls_cert"},
		{"smtpd_listen unix:" + strings.Repeat("x", 120) + "=local\n", "too long for a socket"},
		{"tls_cert a b\ntls_key a\n", "2: tls_key: 1 files, but tls_cert has 2"},
		{"tls_min_version 1.4\n", "none of"},
		{"retry_min 5h\n", "1: retry_min: is more than retry_max"},
		{"virtual_domains localhost\n", "localhost is in local_domains too"},
		{"relay_domains a.example\nvirtual_domains A.example\n", "1: relay_domains: a.example is in"},
		{"local_transport smtp:[::1]:25\n", "neither lmtp:unix"},
		{"local_transport lmtp:unix:\n", "neither lmtp:unix"},
		{"smarthost [a.example:25\n", "neither HOST"},
		{"smarthost a.example:x\n", "neither HOST"},
		{"source_address 192.0.2.1 192.0.2.2\n", "one address of a family"},
		{"dns_servers ns.example\n", "neither ADDRESS"},
		{"maildir Maildir\n", "begins neither"},
		{"maildir /var/%x\n", "only %u"},
		{"maildir /var/%\n", "only %u"},
		{"recipient_delimiter a\n", "cannot be a delimiter"},
		{"smtpd_stress_percent 101\n", "more than 100"},
		{"queue_dir\n", "a directory is wanted"},
		{"log stderr # really\n", "a comment stands on a line of its own"},
		{"log = stderr\n", `without "="`},
		{"log=stderr\n", `without "="`},
		{"log stderr\n#\nlog syslog\n", "3: log: set twice, first in line 1"},
		{"retrymin 5m\n", `1: unknown key "retrymin" (is retry_min meant?)`},
		{"smtpd_listn x\n", "is smtpd_listen meant?"},
		{"something_else 1\n", `unknown key "something_else"`},
		{strings.Repeat("x", 100000), "unknown key"},
		{"log std\x00err\n", "control character"},
		{"# \x00\n", "control character"},
		{"log std\x1berr\n", "control character"},
	} {
		_, err := Load(write(t, c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %q", c.text, err, c.want)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%.60q: an error of %d bytes", c.text, len(err.Error()))
		}
	}
}

func TestQ22_AllErrorsAtOnce(t *testing.T) {
	p := write(t, "log x\nhostnam y\n# fine\nretry_min z\n")
	_, err := Load(p)
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 3 || errs[0].Line != 1 || errs[1].Line != 2 || errs[2].Line != 4 || errs[2].Key != "retry_min" {
		t.Fatalf("%v", err)
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], p+":1: log: ") {
		t.Errorf("%q", lines)
	}
	// Garbage does not fill the terminal.
	_, err = Load(write(t, strings.Repeat("garbage\n", 100000)))
	if errors.As(err, &errs); len(errs) != maxErrors+1 || !strings.Contains(err.Error(), ":100000: the last of 99900 errors more") {
		t.Errorf("%d errors", len(errs))
	}
}

// Of errors of files, which may be wrapped and joined, those that a line names get its place, and the others stay as they are.
func TestWhere(t *testing.T) {
	p := write(t, "aliases one two\n\nlocal_domains a.example ./domains\nqueue_dir /no/queue\n")
	c, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(p)
	missing := func(path string) error { return &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist} }
	err = c.Where(errors.Join(missing(dir+"/two"), errors.New("another"), fmt.Errorf("domains: %w", missing(dir+"/domains")), missing("/no/queue"), missing("/no/queue/lock")))
	want := []string{p + ":1: aliases: open " + dir + "/two: file does not exist", "another", p + ":3: local_domains: domains: open " + dir + "/domains: file does not exist",
		p + ":4: queue_dir: open /no/queue: file does not exist", "open /no/queue/lock: file does not exist"}
	if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	var e *Error
	if !errors.As(err, &e) || e.Line != 1 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", e)
	}
	if c.Where(nil) != nil {
		t.Error("an error of none")
	}
}

func TestQ22_BadFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	os.WriteFile(at("empty"), nil, 0o644)
	os.WriteFile(at("comment"), []byte("#\n"), 0o644)
	os.WriteFile(at("nul"), []byte("hostname a.example\n\x00\x00\x00\n"), 0o644)
	os.Mkdir(at("dir"), 0o755)
	if err := syscall.Mkfifo(at("fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(at("big"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	f.Close()
	os.Symlink(at("loop"), at("loop"))
	for name, want := range map[string]string{
		"empty": "is empty", "dir": "is a directory", "fifo": "not a regular file", "big": "too many",
		"missing": "no such file", "loop": "too many levels", "nul": ":2: control character", "../../../dev/zero": "not a regular file",
	} {
		p := at(name)
		if strings.HasPrefix(name, "..") {
			p = "/dev/zero"
		}
		_, err := Load(p)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), p) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if os.Getuid() != 0 {
		os.WriteFile(at("secret"), []byte("#\n"), 0)
		if _, err := Load(at("secret")); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("unreadable: %v", err)
		}
	}
	if _, err := Load(at("missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
	if _, err := Load(at("comment")); err != nil {
		t.Errorf("only a comment: %v", err)
	}
}

func TestMachineNames(t *testing.T) {
	for _, c := range []struct {
		m                  names
		hostname, origin   string
		virtual            string
		local              string
		wantHost, wantFrom string
	}{
		{m: names{host: "mx.example.org"}, wantHost: "mx.example.org", wantFrom: "mx.example.org", local: "mx.example.org localhost"},
		{m: names{host: "MX.example.org."}, wantHost: "mx.example.org", wantFrom: "mx.example.org", local: "mx.example.org localhost"},
		{m: names{host: "box", hosts: "127.0.0.1 localhost\n127.0.1.1\tbox.example.org box # me\n", mailname: "example.org\n"},
			wantHost: "box.example.org", wantFrom: "example.org", local: "box.example.org example.org localhost"},
		{m: names{host: "box", mailname: "not a domain\n"}, wantHost: "box.localdomain", wantFrom: "box.localdomain", local: "box.localdomain localhost"},
		{m: names{host: ""}, wantHost: "localhost.localdomain", wantFrom: "localhost.localdomain", local: "localhost.localdomain localhost"},
		{m: names{host: "box", hosts: "10.0.0.1 other.example box\n"}, wantHost: "box.localdomain", wantFrom: "box.localdomain", local: "box.localdomain localhost"},
		{m: names{host: "a.example", mailname: "v.example\n"}, virtual: "v.example", wantHost: "a.example", wantFrom: "v.example", local: "a.example localhost"},
		{m: names{host: "box"}, hostname: "h.example", origin: "o.example", wantHost: "h.example", wantFrom: "o.example", local: "h.example o.example localhost"},
	} {
		conf := &Config{Hostname: c.hostname, Origin: c.origin}
		conf.VirtualDomains.Names = strings.Fields(c.virtual)
		conf.derive(c.m)
		if conf.Hostname != c.wantHost || conf.Origin != c.wantFrom || strings.Join(conf.LocalDomains.Names, " ") != c.local {
			t.Errorf("%+v: %s %s %v", c.m, conf.Hostname, conf.Origin, conf.LocalDomains.Names)
		}
	}
}

func TestPath(t *testing.T) {
	t.Setenv("POSTAMT_CONF", "")
	if p := Path(""); p != DefaultPath {
		t.Error(p)
	}
	t.Setenv("POSTAMT_CONF", "/from/env")
	if p := Path(""); p != "/from/env" {
		t.Error(p)
	}
	if p := Path("flag"); p != "flag" {
		t.Error(p)
	}
}

// Any text is either refused with errors that name a line each, or gives a configuration whose values hold.
func FuzzParse(f *testing.F) {
	text, _ := os.ReadFile("../../etc/postamt.conf")
	f.Add(string(text))
	f.Add("hostname a.example\nretry_min 5m\nsmtpd_listen 127.0.0.1:25=mx unix:x=local\n")
	f.Add("log\x00\nlog log\n= =\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := &Config{dir: "/etc/postamt"}
		errs := c.parse("x", text)
		if len(errs) > maxErrors+1 {
			t.Fatalf("%d errors", len(errs))
		}
		for _, e := range errs {
			if strings.ContainsAny(e.Error(), "\n\x00") {
				t.Errorf("error %q", e)
			}
		}
		if len(errs) > 0 {
			return
		}
		if c.Hostname == "" || c.RetryMin <= 0 || c.RetryMin > c.RetryMax || c.RecipientLimit < 100 || !filepath.IsAbs(c.QueueDir) {
			t.Errorf("accepted %q", text)
		}
		for _, l := range c.SmtpdListen {
			if l.Kind == "" || l.Network == "unix" && !filepath.IsAbs(l.Address) {
				t.Errorf("listener %+v", l)
			}
		}
	})
}

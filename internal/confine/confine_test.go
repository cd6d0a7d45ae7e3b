package confine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postamt/internal/config"
)

// As a file is granted: its directory, and the one that it is in behind links; what is missing by the directory that it would be in;
// and nothing twice.
func TestDirectories(t *testing.T) {
	d, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"live/x", "archive/x", "etc/sub", "etcetera"} {
		os.MkdirAll(filepath.Join(d, name), 0o700)
	}
	os.WriteFile(d+"/archive/x/cert1.pem", nil, 0o600)
	os.WriteFile(d+"/etc/aliases", nil, 0o600)
	if err := os.Symlink("../../archive/x/cert1.pem", d+"/live/x/cert.pem"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../run/resolve/late", d+"/live/x/late"); err != nil {
		t.Fatal(err)
	}
	// As resolvconf has it: /etc/resolv.conf -> resolvconf/run/resolv.conf, /etc/resolvconf/run -> /run/resolvconf.
	for _, err := range []error{os.MkdirAll(d+"/run/conf", 0o700), os.Symlink(d+"/run/conf", d+"/live/x/run"), os.Symlink("run/resolv.conf", d+"/live/x/resolv.conf")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := directories(d+"/live/x/resolv.conf", d+"/live/x/cert.pem", d+"/etc/aliases", d+"/etc/none", d+"/etc/sub/none", d+"/etc", d+"/etcetera", d+"/missing/", d+"/live/x/late", "", "/vmlinuz")
	want := []string{d + "/live/x", d + "/run/conf", d + "/archive/x", d + "/etc", d + "/etcetera", d + "/missing", d + "/run/resolve"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// What is wrong is refused with the command that mends it.
func TestBecome(t *testing.T) {
	d := t.TempDir()
	write := func(text string) *config.Config {
		t.Helper()
		for _, key := range []string{"smtpd_user", "queue_user", "auth_user", "keyd_user"} {
			if !strings.Contains(text, key) {
				text += key + "\n"
			}
		}
		if err := os.WriteFile(d+"/postamt.conf", []byte("queue_dir queue\nrun_dir run\nstate_dir state\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(d + "/postamt.conf")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, dir := range []string{"queue/active", "queue/hold", "run"} {
		os.MkdirAll(filepath.Join(d, dir), 0o700)
	}
	os.WriteFile(d+"/users", nil, 0o600)
	c := write("login_messages_day 1\n")
	for name, p := range map[string]*Program{"smtpd": Smtpd(c), "queued": Queued(c), "authd": Authd(c)} {
		if err := p.Become(false); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, made := range []string{"usage", "auth"} {
		if st, err := os.Stat(d + "/state/" + made); err != nil || st.Mode().Perm() != 0o700 {
			t.Error(made, st, err)
		}
	}
	for _, x := range []struct {
		path string
		mode os.FileMode
		of   func(*config.Config) *Program
	}{
		{"postamt.conf", 0o666, Keyd}, {"", 0o777, Keyd}, {"run", 0o777, Keyd}, {"run", 0o777, Smtpd}, {"users", 0o666, Smtpd}, {"users", 0o666, Queued},
		{"users", 0o666, Authd}, {"queue", 0o777, Smtpd}, {"queue/active", 0o777, Smtpd}, {"queue/hold", 0o777, Queued},
		{"state", 0o777, Smtpd}, {"state", 0o777, Authd}, {"state/usage", 0o777, Smtpd}, {"state/auth", 0o777, Authd},
	} {
		path := filepath.Join(d, x.path)
		st, err := os.Stat(path)
		if err == nil {
			err = os.Chmod(path, x.mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		err = x.of(c).Become(false)
		if err == nil || !strings.Contains(err.Error(), "chmod ") || !strings.HasSuffix(err.Error(), path+" mends it") {
			t.Errorf("%s with mode %o: %v", x.path, x.mode, err)
		}
		os.Chmod(path, st.Mode())
	}
	if os.Geteuid() != 0 {
		return
	}
	c = write("smtpd_user no-such-name\nqueue_user 64321:64322\n")
	if err := Smtpd(c).Become(false); err == nil || !strings.Contains(err.Error(), "smtpd_user: privilege: account no-such-name") || !strings.Contains(err.Error(), "useradd --system --user-group no-such-name") {
		t.Error(err)
	}
	if err := Queued(c).Become(false); err == nil || !strings.HasSuffix(err.Error(), "queue: belongs to uid 0, not to 64321:64322; chown -R 64321:64322 "+d+"/queue mends it") {
		t.Error(err)
	}
	if err := os.Chown(d+"/queue/active", 64323, 64322); err != nil {
		t.Fatal(err)
	}
	c = write("queue_user 64321:64322\n")
	if err := Smtpd(c).Become(false); err == nil || !strings.HasSuffix(err.Error(), "active: belongs to uid 64323; chown 64321 "+d+"/queue/active mends it") {
		t.Error(err)
	}
	if err := os.Chown(d+"/queue/active", 0, 0); err != nil {
		t.Fatal(err)
	}
	c = write("auth_user 64321:64322\nauth_sources system\n")
	if _, missing := os.Stat("/etc/shadow"); missing != nil {
		t.Log("there is no /etc/shadow")
	} else if err := Authd(c).Become(false); err == nil || !strings.Contains(err.Error(), "/etc/shadow: is for the group ") {
		t.Error(err)
	}
	c = write("smtpd_user 64321:64322\n")
	if err := Smtpd(c).Become(false); err == nil || !strings.Contains(err.Error(), "is for the group 0, of which 64321:64322 is no member; usermod -aG 0 64321:64322 mends it") {
		t.Error(err)
	}
}

// A reload can ask for nothing that was given away at the start.
func TestCovers(t *testing.T) {
	d := t.TempDir()
	for _, dir := range []string{"etc/sub", "other", "queue/active"} {
		os.MkdirAll(filepath.Join(d, dir), 0o700)
	}
	parse := func(text string) *config.Config {
		t.Helper()
		c, err := config.Parse(d+"/etc/postamt.conf", "queue_dir ../queue\nrun_dir ../run\nstate_dir ../state\n"+text)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, x := range []struct {
		of        func(*config.Config) *Program
		old, next string
		want      string // in the error
	}{
		{Smtpd, "", "", ""},
		{Smtpd, "", "aliases sub/aliases\n", ""},
		{Smtpd, "", "aliases ../other/aliases\n", "read " + d + "/other: not granted"},
		{Smtpd, "", "login_messages_day 1\n", "write " + d + "/state/usage: not granted"},
		{Smtpd, "login_messages_day 1\n", "", ""},
		{Smtpd, "", "auth_server /run/dovecot/auth\n", "connect to sockets in /run/dovecot: not granted"},
		{Queued, "", "routes ../other/routes\n", "read " + d + "/other"},
		{Queued, "", "source_address 192.0.2.1\n", "from addresses"},
		{Keyd, "", "tls_cert a\ntls_key ../other/key\n", "read " + d + "/other"},
		{Authd, "", "oauth_introspection https://example.org/\noauth_credentials c\n", "connect to other hosts"},
		{Authd, "", "auth_sources users checkpassword:/bin/true\n", "execute programs"},
		{Authd, "auth_sources users checkpassword:/bin/true\n", "", ""},
	} {
		p := x.of(parse(x.old))
		p.entered = p.rules()
		err := p.Covers(x.of(parse(x.next)))
		if (err != nil) != (x.want != "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q, then %q: %v, want %q", x.old, x.next, err, x.want)
		}
	}
}

// A checkpassword program needs whatever it needs.
func TestFree(t *testing.T) {
	for source, free := range map[string]bool{"users": false, "system": false, "checkpassword:/bin/checkpassword": true, "server:/run/dovecot/auth": false} {
		c := config.Default()
		c.AuthSources = []string{"users", source}
		if Authd(c).free != free {
			t.Error(source)
		}
	}
}

package imap

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postamt/test/peers"
)

// synced is the maildirs at the other end, of a program that makes two ends equal.
type synced struct {
	*visit
	folder func(name string) string // its directory
}

// put makes a message in a folder there.
func (s *synced) put(folder, flags, subject string) {
	s.t.Helper()
	dir := s.folder(folder)
	for _, d := range []string{"cur", "new", "tmp"} {
		s.Must(os.MkdirAll(dir+"/"+d, 0o700))
	}
	s.Must(os.WriteFile(dir+"/cur/17000000."+subject+".local:2,"+flags, []byte(text(subject)), 0o600))
}

// find is the file of a message there.
func (s *synced) find(folder, subject string) string {
	s.t.Helper()
	files, _ := filepath.Glob(s.folder(folder) + "/[cn]*/*")
	for _, f := range files {
		b, err := os.ReadFile(f)
		s.Must(err)
		if strings.Contains(strings.ReplaceAll(string(b), "\r", ""), "Subject: "+subject+"\n") {
			return f
		}
	}
	s.t.Fatalf("%s has no %s: %q", folder, subject, files)
	return ""
}

// mark gives flags to one there.
func (s *synced) mark(folder, flags, subject string) {
	s.t.Helper()
	f := s.find(folder, subject)
	base, _, _ := strings.Cut(filepath.Base(f), ":")
	s.Must(os.Rename(f, s.folder(folder)+"/cur/"+base+":2,"+flags))
}

// holds says what both ends hold, as "subject:flags", flags as maildirs have them.
func (s *synced) holds(folder string, want ...string) {
	s.t.Helper()
	ours := make([]string, len(want))
	for i, w := range want {
		subject, flags, _ := strings.Cut(w, ":")
		var words []string
		for _, x := range []string{"S seen", "R answered", "F flagged", "T deleted", "D draft"} {
			if strings.Contains(flags, x[:1]) {
				words = append(words, x[2:])
			}
		}
		ours[i] = subject + ":" + strings.Join(words, ",")
		if words == nil {
			ours[i] += "-"
		}
	}
	s.imapSite.holds(folder, ours...)
	var theirs []string
	files, _ := filepath.Glob(s.folder(folder) + "/[cn]*/*")
	for _, f := range files {
		b, err := os.ReadFile(f)
		s.Must(err)
		_, rest, _ := strings.Cut(string(b), "Subject: ")
		subject, _, _ := strings.Cut(strings.ReplaceAll(rest, "\r", ""), "\n")
		if !strings.HasSuffix(strings.ReplaceAll(string(b), "\r", ""), "\n\ntext of "+subject+"\n") {
			s.t.Errorf("%s: %q", f, b)
		}
		_, flags, _ := strings.Cut(filepath.Base(f), ":2,")
		theirs = append(theirs, subject+":"+strings.TrimRight(flags, "abcdefghijklmnopqrstuvwxyz"))
	}
	slices.Sort(theirs)
	want = slices.Clone(want)
	slices.Sort(want)
	if !slices.Equal(theirs, want) {
		s.t.Errorf("%s at the other end holds %q, not %q", folder, theirs, want)
	}
}

// files are all messages of both ends by name, with what IMAP says of the folders.
func (s *synced) files() string {
	s.t.Helper()
	var all []string
	for _, root := range []string{s.Alice, s.folder("INBOX"), s.folder("Work")} {
		files, _ := filepath.Glob(root + "/[cn]*/*")
		more, _ := filepath.Glob(root + "/.*/[cn]*/*")
		all = append(append(all, files...), more...)
	}
	slices.Sort(all)
	c := s.session()
	for _, folder := range []string{"INBOX", "Work.Sub", "Notes"} {
		all = append(all, c.do("STATUS "+folder+" (MESSAGES UNSEEN UIDNEXT UIDVALIDITY HIGHESTMODSEQ)")...)
	}
	return strings.Join(all, "\n")
}

// equal has a program make two ends equal again and again, with what both have got since: folders, messages, flags, and messages that are gone.
func (s *synced) equal(once func() string) {
	s.t.Helper()
	c := s.session()
	for _, x := range []string{"INBOX  first", `INBOX \Seen second`, "INBOX  third", `Work \Draft work`} {
		f := strings.SplitN(x, " ", 3)
		c.ask("CREATE " + f[0])
		c.append(f[0], f[1], f[2])
	}
	s.put("Notes", "F", "note")
	once()
	s.holds("INBOX", "first:", "second:S", "third:")
	s.holds("Work", "work:D")
	s.holds("Notes", "note:F")

	c.do("SELECT INBOX")
	c.do(`STORE 1 +FLAGS (\Answered)`)
	c.do(`STORE 2 +FLAGS (\Deleted)`)
	c.do("EXPUNGE")
	c.append("INBOX", `\Seen`, "fourth")
	c.do("CREATE Work.Sub")
	c.append("Work.Sub", `\Flagged`, "deep")
	s.Must(os.Remove(s.find("INBOX", "third")))
	s.mark("Notes", "S", "note")
	s.put("INBOX", "RS", "fifth")
	once()
	s.holds("INBOX", "first:R", "fourth:S", "fifth:RS")
	s.holds("Work", "work:D")
	s.holds("Work.Sub", "deep:F")
	s.holds("Notes", "note:S")

	before := s.files()
	once()
	if after := s.files(); after != before {
		s.t.Errorf("when nothing was to do:\n%s\nand then\n%s", before, after)
	}
}

func mbsync(v *visit) {
	s := &synced{v, func(name string) string {
		if name == "INBOX" {
			return v.dir + "/mail"
		}
		return v.dir + "/mail/." + name
	}}
	v.Must(os.Mkdir(v.dir+"/mail", 0o700))
	v.file("rc", "FSync no\n\nIMAPAccount alice\nHost mx.example.test\nTunnel \"socat - TCP:127.0.0.1:"+v.port+"\"\nUser alice\nPass secret\nSSLType "+v.either("STARTTLS", "IMAPS")+"\nCertificateFile cert.pem\n"+
		"\nIMAPStore far\nAccount alice\n\nMaildirStore near\nInbox "+v.dir+"/mail\nSubFolders Maildir++\n"+
		"\nChannel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n")
	once := func() string { return v.run("mbsync", "-V", "-c", "rc", "all") }
	s.equal(once)
	// What is marked at either end leaves both.
	c := v.session()
	c.do("SELECT INBOX")
	c.do(`STORE 1 +FLAGS (\Deleted)`)
	s.mark("INBOX", "ST", "fourth")
	once()
	s.holds("INBOX", "fifth:RS")
}

func offlineimap(v *visit) {
	s := &synced{v, func(name string) string { return v.dir + "/mail/" + name }}
	cert := "ssl = no\nstarttls = no\n"
	if v.secure {
		cert = "ssl = yes\n"
	}
	print := strings.ReplaceAll(v.run("openssl", "x509", "-in", "cert.pem", "-noout", "-fingerprint", "-sha512"), ":", "")
	_, print, _ = strings.Cut(strings.TrimSpace(print), "=")
	v.file("rc", "[general]\naccounts = a\nmetadata = "+v.dir+"/meta\n[Account a]\nlocalrepository = l\nremoterepository = r\n[Repository l]\ntype = Maildir\nlocalfolders = "+v.dir+"/mail\n"+
		"[Repository r]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = "+v.port+"\nremoteuser = alice\nremotepass = secret\ncert_fingerprint = "+strings.ToLower(print)+"\n"+cert)
	s.equal(func() string {
		return v.run("/usr/bin/python3", "/usr/bin/offlineimap", "-c", "rc", "-o", "-1", "-u", "basic")
	})
}

// dsync is Dovecot's, which makes its end equal to ours as who moves to it would. The other way, and both at once, it ends with a failed assertion of its own
// (2.3.19, dsync_mailbox_import_handle_mail): IMAP has no place for the GUID by which it knows a message.
func dsync(v *visit) {
	d := peers.Dovecot(v.t, peers.Config{Protocols: []string{"imap"}, Users: []string{"alice"}})
	s := &synced{v, func(name string) string {
		if name == "INBOX" {
			return d.Maildir("alice")
		}
		return d.Maildir("alice") + "/." + name
	}}
	v.Must(os.RemoveAll(d.Maildir("alice"))) // it makes its own
	v.Must(os.Chmod(v.Dir+"/etc/cert.pem", 0o644))
	once := func() {
		v.t.Helper()
		out, err := d.Doveadm(v.t, "-o", "imapc_host=127.0.0.1", "-o", "imapc_port="+v.port, "-o", "imapc_user=alice", "-o", "imapc_password=secret",
			"-o", "imapc_ssl="+v.either("starttls", "imaps"), "-o", "imapc_ssl_verify=no", "-o", "ssl_client_ca_file="+v.Dir+"/etc/cert.pem",
			"-o", "imapc_features=rfc822.size fetch-headers fetch-bodystructure search delay-login", "backup", "-R", "-u", "alice", "imapc:")
		if err != nil || strings.Contains(out, "Error") {
			v.t.Errorf("%v\n%s", err, out)
		}
	}
	c := v.session()
	c.do("CREATE Work.Sub")
	c.append("INBOX", "", "first")
	c.append("INBOX", `\Seen`, "second")
	c.append("INBOX", `\Flagged`, "third")
	c.append("Work.Sub", `\Draft`, "deep")
	once()
	s.holds("INBOX", "first:", "second:S", "third:F")
	s.holds("Work.Sub", "deep:D")
	c.do("SELECT INBOX")
	c.do(`STORE 1 +FLAGS (\Answered)`)
	c.do("MOVE 2 Work.Sub")
	c.append("INBOX", "", "fourth")
	c.do("CREATE Notes")
	c.append("Notes", "", "note")
	once()
	s.holds("INBOX", "first:R", "third:F", "fourth:")
	s.holds("Work.Sub", "deep:D", "second:S")
	s.holds("Notes", "note:")
	before := s.files()
	once()
	if after := s.files(); after != before {
		v.t.Errorf("when nothing was to do:\n%s\nand then\n%s", before, after)
	}
}

package imap

import (
	"bytes"
	"os"
	"strings"
	"syscall"
)

// Messages that are in every INBOX before the program comes: dots, long lines, octets that are not ASCII, and the end of a line that is missing.
var messages = []string{
	"From: a@b.example\nTo: alice@example.test\nSubject: first\n\n.\n..dots\nend\n",
	"From: a@b.example\nSubject: second\r\n\r\n" + strings.Repeat("0123456789\r\n", 10_000),
	"From: a@b.example\nSubject: third\n\ngrün, and no end",
}

// got says that a text has all of the messages, whatever its ends of lines.
func (v *visit) got(text string) {
	v.t.Helper()
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for _, part := range []string{"Subject: first\n", "\n.\n..dots\nend\n", strings.Repeat("0123456789\n", 10_000), "Subject: third\n", "\n\ngrün, and no end"} {
		if !strings.Contains(text, part) {
			v.t.Errorf("%.40q is missing in\n%.2000s", part, strings.ReplaceAll(text, "0123456789\n", ""))
		}
	}
}

// mutts: mutt and neomutt.
func mutt(program string) func(*visit) {
	return func(v *visit) {
		v.session().do("CREATE Saved")
		url := "imap" + v.either("", "s") + "://alice@127.0.0.1:" + v.port
		v.file("rc", "set imap_pass=secret ssl_force_tls=yes ssl_starttls=yes certificate_file="+v.dir+"/cert.pem ssl_verify_host=no ssl_usesystemcerts=no\n"+
			"set folder="+url+"/ spoolfile="+url+"/INBOX header_cache="+v.dir+"/hc record='' confirmcreate=no confirmappend=no delete=yes quit=yes wait_key=no sort=mailbox-order resolve=no mark_old=no sleep_time=0 timeout=1\n"+
			`push "<first-entry><flag-message><next-entry><save-message>=Saved<enter><last-entry><delete-message><sync-mailbox><first-entry><display-message><exit><tag-pattern>~A<enter><tag-prefix><copy-message>`+v.dir+`/mbox<enter><quit>"`+"\n")
		out := v.keys(program + " -n -F rc")
		v.holds("INBOX", "first:seen,flagged")
		v.holds("Saved", "second:-")
		if b, _ := os.ReadFile(v.dir + "/mbox"); !strings.Contains(string(b), "\n.\n..dots\nend\n") {
			v.t.Errorf("the copy has %q\n%s", b, out)
		}
		// It searches there, changes folders, and edits keywords of its own; what it has in its cache it does not ask again.
		v.file("rc2", "source rc\npush \"<limit>~f b.example<enter><first-entry><set-flag>r<change-folder>=Saved<enter><first-entry><set-flag>!<delete-message><quit>\"\n")
		v.file("rc", strings.Split(string(v.read("rc")), "push")[0])
		v.keys(program + " -n -F rc2")
		v.holds("INBOX", "first:seen,answered,flagged")
		v.holds("Saved")
	}
}

func getmail(v *visit) {
	v.session().do("CREATE Taken")
	kind := v.either("SimpleIMAPRetriever", "SimpleIMAPSSLRetriever")
	rc := "[retriever]\ntype = " + kind + "\nserver = 127.0.0.1\nport = " + v.port + "\nusername = alice\npassword = secret\nmailboxes = (\"INBOX\",)\nmove_on_delete = Taken\n" +
		"[destination]\ntype = MDA_external\npath = /bin/sh\narguments = (\"-c\", \"cat >>" + v.dir + "/mbox\")\nallow_root_commands = true\n[options]\n"
	v.file("getmailrc", rc+"read_all = false\n")
	v.run("getmail", "--getmaildir", v.dir)
	v.got(v.take("mbox"))
	v.holds("INBOX", "first:-", "second:-", "third:-")
	v.run("getmail", "--getmaildir", v.dir)
	if s := v.take("mbox"); s != "" {
		v.t.Errorf("it has fetched again: %.200q", s)
	}
	v.file("getmailrc", rc+"read_all = true\ndelete = true\n")
	v.run("getmail", "--getmaildir", v.dir)
	v.got(v.take("mbox"))
	v.holds("INBOX")
	v.holds("Taken", "first:-", "second:-", "third:-")
}

// fetchmail leaves, deletes, and waits in IDLE.
func fetchmail(v *visit) {
	call := func(server, user string) []string {
		v.file("rc", "poll 127.0.0.1 protocol imap port "+v.port+" "+server+" user alice password secret mda \"cat >>"+v.dir+"/mbox\" sslcertck sslcertfile "+v.dir+"/cert.pem sslcommonname mx.example.test "+
			v.either("sslproto 'TLS1.2+'", "ssl")+" "+user+"\n")
		return []string{"fetchmail", "--nosyslog", "-v", "-f", v.dir + "/rc", "-i", v.dir + "/ids", "--pidfile", v.dir + "/pid"}
	}
	v.run(call("", "keep")...)
	v.got(v.take("mbox"))
	v.holds("INBOX", "first:seen", "second:seen", "third:seen")
	v.run(call("", "nokeep fetchall")...)
	v.got(v.take("mbox"))
	v.holds("INBOX")

	c := v.command(call("", "nokeep idle")...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	v.Must(c.Start())
	for _, subject := range []string{"one", "two"} {
		v.session().append("INBOX", "", subject)
		v.Await("what IDLE has told", func() bool {
			b, _ := os.ReadFile(v.dir + "/mbox")
			return strings.Contains(string(b), "\ntext of "+subject+"\n")
		})
		v.Await("its end in the mailbox", func() bool { return len(v.Left()) == 0 })
	}
	c.Process.Signal(syscall.SIGTERM)
	c.Wait()
	v.holds("INBOX")
	if n := strings.Count(out.String(), "> A0"); n > 60 || !strings.Contains(out.String(), "IDLE") {
		v.t.Errorf("%d commands:\n%s", n, &out)
	}
}

func curl(v *visit) {
	call := func(path string, more ...string) string {
		v.t.Helper()
		return strings.ReplaceAll(v.run(append([]string{"curl", "-sS", "-m", "60", "--cacert", "cert.pem", "--connect-to", "mx.example.test::127.0.0.1:", "-u", "alice:secret", "--ssl-reqd",
			"imap" + v.either("", "s") + "://mx.example.test:" + v.port + path}, more...)...), "\r", "")
	}
	want := func(got, want string) {
		v.t.Helper()
		if got != want {
			v.t.Errorf("%q, not %q", got, want)
		}
	}
	v.got(call("/INBOX;UID=[1-3]"))
	want(call("/INBOX;UID=1;SECTION=HEADER.FIELDS%20(SUBJECT)"), "Subject: first\n\n")
	want(call("/INBOX;UID=1;SECTION=TEXT;PARTIAL=2.6"), "\n..dot")
	want(call("/INBOX;MAILINDEX=2;SECTION=TEXT"), strings.Repeat("0123456789\n", 10_000))
	want(call("/INBOX?SUBJECT%20third"), "* SEARCH 3\n")
	want(call("/INBOX?OR%20SUBJECT%20first%20LARGER%20100000"), "* SEARCH 1 2\n")
	want(call("/INBOX?NOT%20ALL"), "* SEARCH\n")
	call("", "-X", "CREATE Work")
	want(call(""), "* LIST (\\HasNoChildren) \".\" INBOX\n* LIST (\\HasNoChildren) \".\" Work\n")
	v.file("mail", "Subject: loaded\r\n\r\nup\r\n")
	call("/Work", "-T", "mail")
	want(call("/Work;UID=1"), "Subject: loaded\n\nup\n")
	call("/INBOX", "-X", `STORE 1 +FLAGS (\Deleted)`)
	call("/INBOX", "-X", `COPY 2 Work`)
	call("/INBOX", "-X", "MOVE 3 Work")
	call("/INBOX", "-X", "EXPUNGE")
	want(call("/INBOX", "-X", "FETCH 1 (UID FLAGS)"), "* 1 FETCH (UID 2 FLAGS (\\Seen))\n")
	if s := call("/Work", "-X", "EXAMINE Work"); !strings.Contains(s, "* 3 EXISTS\n") {
		v.t.Error(s)
	}
	v.holds("INBOX", "second:seen")
	v.holds("Work", "loaded:seen", "second:seen", "third:seen")
}

func imaplib(v *visit) {
	v.run("python3", v.script("methods.py"), v.either("imap", "imaps"), v.port, "cert.pem")
	v.holds("INBOX", "first:seen,answered,flagged", "third:-")
	v.holds("Work", "second:$Forwarded,own", "appended:draft")
}

func snail(v *visit) {
	v.session().do("CREATE Work")
	v.file("rc", "set v15-compat=y quiet imap-use-starttls tls-verify=ignore user=alice password=secret MAIL='' DEAD=/dev/null\n")
	v.file("keys", "from 1-3\ntype 1\nflag 1\ncopy 2 +Work\ndelete 3\nquit\n")
	url := "imap" + v.either("", "s") + "://alice:secret@127.0.0.1:" + v.port + "/INBOX"
	out := v.run("sh", "-c", "s-nail -:/ -S v15-compat=y -S imap-use-starttls -S tls-verify=ignore -S folder="+strings.TrimSuffix(url, "INBOX")+" -f '"+url+"' <keys")
	if !strings.Contains(out, "\n.\n..dots\nend\n") {
		v.t.Errorf("it shows\n%s", out)
	}
	v.holds("INBOX", "first:seen,flagged", "second:seen")
	v.holds("Work", "second:-")
}

// read is a file of the program's.
func (v *visit) read(name string) string {
	v.t.Helper()
	b, err := os.ReadFile(v.dir + "/" + name)
	v.Must(err)
	return string(b)
}

// take is a file that the program may have written, which is gone then.
func (v *visit) take(name string) string {
	b, _ := os.ReadFile(v.dir + "/" + name)
	os.Remove(v.dir + "/" + name)
	return string(b)
}

// script is the path of one of testdata.
func (v *visit) script(name string) string {
	v.t.Helper()
	wd, err := os.Getwd()
	v.Must(err)
	return wd + "/testdata/" + name
}

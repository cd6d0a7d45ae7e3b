package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postamt/test/suite"
)

// One message to everything that an alias can lead to: queuectl route says before where it will go, and queuectl why afterwards where it went.
func TestRouteAndWhy(t *testing.T) {
	lists := t.TempDir()
	for d := lists; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	if err := os.WriteFile(lists+"/list", []byte("alice\nbob\nrun\nfar@sink.test\ngone@no.test\nlater@slow.test\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k := sinkAt(t, "127.0.0.1")
	s, dir := split(t, suite.Config{Users: []string{"alice", "bob", "carol"}, Aliases: `postmaster: alice
run: "|cat > DIR/tmp && mv DIR/tmp DIR/ran"
all: :include:` + lists + "/list\n", Routes: fmt.Sprintf("sink.test [127.0.0.1]:%s\nno.test error:5.1.1 he left\nslow.test [127.0.0.1]:1\n", k.port())})
	asUser(t, s, 1, ".forward", "\\bob, carol, back@sink.test\n")

	tree := queuectl(t, s, "", 67, "route", "all@example.test", "from", "alice@example.test")
	for _, want := range []string{
		"\n    alice@example.test\tmailbox\talice\t", "\n      " + s.Maildir("alice") + "\tmaildir\t", "/home/bob/.forward\tforward\t", "\n          " + s.Maildir("carol") + "\tmaildir\t",
		"\tback@sink.test\tremote\t", "\n    gone@no.test\trefuse\t550 5.1.1 he left\t", "\tcommand\t", "127.0.0.1[127.0.0.1]:" + k.port() + "\thost\t",
	} {
		if want = strings.TrimPrefix(want, "\t"); !strings.Contains(tree, want) {
			t.Errorf("no %q in\n%s", want, tree)
		}
	}

	c := dial(t, s.Socket)
	id := c.send("<alice@example.test>", []string{"<all@example.test>"}, append([]byte("Message-ID: <one@client.test>\r\n"), note("to all")...))
	inbox(t, s, "alice", 2) // and the report
	inbox(t, s, "bob", 1)
	inbox(t, s, "carol", 1)
	owned(t, aliasUID, dir+"/ran")
	k.await(t, 2)
	await(t, "what cannot be sent to be deferred", func() bool { return strings.Contains(s.Log("queued"), "deferred rcpt=<later@slow.test>") })
	await(t, "the report to be gone", func() bool { return len(s.Queued()) == 1 })
	var logs []string
	for _, name := range []string{"queued", "deliver", "smtpd"} { // the last has what comes first
		logs = append(logs, filepath.Join(s.Dir, "log", name))
	}
	// What the programs write in the background is there soon.
	await(t, "the log of the report", func() bool { return strings.Count(s.Log("queued"), ": removed ") >= 3 })
	for _, asked := range []string{id, "<one@client.test>"} {
		out := queuectl(t, s, "", 75, append([]string{"why", asked}, logs...)...)
		for _, want := range []string{
			`(?m)^-\tsmtpd\t` + id + `\taccepted\tfrom=<alice@example.test> .*login=root .*message-id=<one@client.test>`,
			`(?m)^-\tqueued\t` + id + `\texpanded\trcpt=<all@example.test> child=\S+ rcpts=6 source=` + regexp.QuoteMeta(s.Dir) + `/aliases:3$`,
			`(?m)\tdelivered\trcpt=<carol@example.test> .*source=` + regexp.QuoteMeta(s.Dir) + `/users:3 via=`,
			`(?m)\tdelivered\trcpt=<far@sink.test> .*source=` + regexp.QuoteMeta(s.Dir) + `/routes:1 via=`,
			`(?m)^<alice@example.test>\tstored\tuser=alice file=\S+\t\S+$`,
			`(?m)^<bob@example.test>\tstored\tuser=bob target=mailbox file=\S+\t\S+$`,
			`(?m)^<carol@example.test>\tstored\tuser=carol file=\S+\t\S+$`,
			`(?m)^<run@example.test>\tstored\tuser=\S+ target=alias:command-\S+\t\S+$`,
			`(?m)^<far@sink.test>\trelayed\t127.0.0.1\[127.0.0.1\]:` + k.port() + `: 250 .*\t\S+$`,
			`(?m)^<back@sink.test>\trelayed\t127.0.0.1\[127.0.0.1\]:` + k.port() + `: 250 .*\t\S+$`,
			`(?m)^<gone@no.test>\tfailed\t550 5.1.1 he left; <alice@example.test> is told by \S+\t\S+$`,
			`(?m)^<later@slow.test>\twaiting\tuntil 20\S+: .*connection refused\t\S+$`,
			`(?m)\n<alice@example.test>\tstored\tuser=alice file=\S+\t\S+\n\z`, // the report is the last
		} {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("why %s: no %s in\n%s", asked, want, out)
			}
		}
		_, ends, _ := strings.Cut(out, "\n\n")
		if n := strings.Count(ends, "\n"); n != 9 {
			t.Errorf("why %s: %d ends\n%s", asked, n, ends)
		}
	}
	// Of one child it tells how it came to be, and nothing of its siblings; without logs, what the queue knows.
	child := s.Queued()[0]
	child = filepath.Base(child)
	out := queuectl(t, s, "", 75, append([]string{"why", child}, logs...)...)
	if !strings.Contains(out, "\tsmtpd\t"+id+"\taccepted\t") || !strings.Contains(out, "\t"+id+"\texpanded\t") {
		t.Errorf("why %s does not say where it comes from:\n%s", child, out)
	}
	out = queuectl(t, s, "", 75, "why", id)
	if !regexp.MustCompile(`(?m)^<later@slow.test>\twaiting\tuntil \S+: .*connection refused\t`+child+`$`).MatchString(out) || !regexp.MustCompile(`(?m)^<alice@example.test>\tdelivered\t`).MatchString(out) {
		t.Errorf("without logs:\n%s", out)
	}
	queuectl(t, s, "", 0, "delete", child)
	queuectl(t, s, "", 69, "why", child)
	if out := queuectl(t, s, "", 69, append([]string{"why", id}, logs...)...); !regexp.MustCompile(`(?m)^<later@slow.test>\tunknown\t`).MatchString(out) {
		t.Errorf("after it was deleted:\n%s", out)
	}
}

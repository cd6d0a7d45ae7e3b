package crash

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/internal/remote/smtptest"
	"postamt/test/suite"
)

// stored reads every message of a user, in whatever folder, and returns how many there are of each id. Each must be whole: below
// the fields that were added stands, byte for byte, what was sent.
func (l *load) stored(s *suite.System, user string) map[string]int {
	found := map[string]int{}
	filepath.WalkDir(s.Maildir(user), func(path string, d fs.DirEntry, err error) error {
		dir := filepath.Base(filepath.Dir(path))
		if err != nil || d.IsDir() || dir != "new" && dir != "cur" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			l.t.Error(err)
			return nil
		}
		if id := reported(text); id != "" {
			found["report of "+id]++
			return nil
		}
		if id := l.identify(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))); id != "" {
			found[id]++
		} else {
			l.t.Errorf("%s is not, or not all of, what was sent:\n%.2000s", path, text)
		}
		return nil
	})
	return found
}

// reported returns the id of the message that text is a failure report of, "" if it is none.
func reported(text []byte) string {
	head, rest, _ := bytes.Cut(text, []byte("\n\n"))
	_, rest, _ = bytes.Cut(rest, []byte("\nSubject: crash-"))
	if !bytes.Contains(head, []byte("\nContent-Type: multipart/report")) || len(rest) < 6 || !bytes.Contains(text, []byte("\nAction: failed\n")) {
		return ""
	}
	return "crash-" + string(rest[:6])
}

// identify returns the id of the message that ends text, "" unless all of it does.
func (l *load) identify(text []byte) string {
	const field = "\r\nSubject: crash-"
	_, after, _ := bytes.Cut(text, []byte(field))
	digits, _, _ := bytes.Cut(after, []byte("\r\n"))
	number := 0
	for _, c := range digits {
		number = number*10 + int(c-'0')
	}
	if len(digits) != 6 || !bytes.HasSuffix(text, append([]byte("\r\n"), l.text(number)...)) {
		return ""
	}
	return "crash-" + string(digits)
}

// verify compares what the clients know with what there is, in the mailboxes and at the sinks, and returns how many copies
// the sinks have got more than once.
func (l *load) verify(s *suite.System, sinks ...*smtptest.Server) (again int) {
	l.t.Helper()
	var all []smtptest.Message
	for _, sink := range sinks {
		all = append(all, sink.Messages()...)
	}
	return l.verifyMessages(s, all)
}

// verifyMessages is verify with what the sinks have got.
func (l *load) verifyMessages(s *suite.System, sink []smtptest.Message) (again int) {
	l.t.Helper()
	boxes := map[string]map[string]int{}
	for _, user := range s.Users {
		boxes[user] = l.stored(s, user)
	}
	remote, copies := map[string]int{}, map[string]int{}
	for _, m := range sink {
		id := l.identify(m.Data)
		if id == "" {
			l.t.Errorf("the sink has something that is not, or not all of, what was sent:\n%.2000s", m.Data)
		}
		for _, rcpt := range m.Rcpts {
			if copies[id+rcpt]++; copies[id+rcpt] > 1 {
				again++
			}
		}
		remote[id]++
	}
	var fates [acknowledged + 1]int
	for i := range l.sent {
		m := &l.sent[i]
		fates[m.fate]++
		to := &l.targets[m.to]
		for _, user := range to.mailboxes {
			n := boxes[user][m.id()]
			delete(boxes[user], m.id())
			l.judge(m, user, n, 1)
		}
		if to.remote {
			l.judge(m, "the sink", remote[m.id()], 1<<30)
			delete(remote, m.id())
		}
		for _, rcpt := range to.away {
			l.judge(m, rcpt, copies[m.id()+"<"+rcpt+">"], 1<<30)
			delete(remote, m.id())
		}
		if to.bounced {
			user, _, _ := strings.Cut(l.from, "@")
			l.judge(m, user, boxes[user]["report of "+m.id()], 1)
			delete(boxes[user], "report of "+m.id())
		}
	}
	for user, box := range boxes {
		for id, n := range box {
			l.t.Errorf("%s has %d of %s, which was never sent to this mailbox", user, n, id)
		}
	}
	for id := range remote {
		l.t.Errorf("the sink has %s, which was never sent there", id)
	}
	l.t.Logf("%d messages: %d acknowledged, %d unknown, %d refused, %d unsent; %d copies at the sink, %d more than once", len(l.sent),
		fates[acknowledged], fates[unknown], fates[refused], fates[unsent], len(copies), again)
	return again
}

// judge says whether n copies of a message in one place are right.
func (l *load) judge(m *sent, where string, n, most int) {
	switch {
	case m.fate == acknowledged && n == 0:
		l.t.Errorf("LOST: %s was acknowledged and %s has it not", m.id(), where)
	case m.fate != acknowledged && m.fate != unknown && n > 0:
		l.t.Errorf("%s has %d of %s, whose sender was not told that it was taken (fate %d, %s)", where, n, m.id(), m.fate, m.reply)
	case n > most:
		l.t.Errorf("DUPLICATE: %s has %d of %s (fate %d)", where, n, m.id(), m.fate)
	}
}

// queueEmpty checks that nothing at all is left in the queue directory, not even of what people or the log are for, but the lock and what
// queued counts.
func queueEmpty(t testing.TB, s *suite.System) {
	t.Helper()
	filepath.WalkDir(s.Queue, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
		} else if !d.IsDir() && filepath.Dir(path) != filepath.Clean(s.Queue) && !strings.Contains(path, "lost+found") {
			text, _ := os.ReadFile(path)
			t.Errorf("left in the queue: %s\n%.1000s", path, text)
		}
		return nil
	})
}

// tempFiles checks the tmp/ of every maildir: what was last written after the last crash has no excuse.
func tempFiles(t testing.TB, s *suite.System, crash time.Time) {
	t.Helper()
	left := 0
	for _, user := range s.Users {
		filepath.WalkDir(s.Maildir(user), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Base(filepath.Dir(path)) != "tmp" {
				return nil
			}
			left++
			if info, err := d.Info(); err == nil && info.ModTime().After(crash) {
				t.Errorf("%s was left without a crash", path)
			}
			return nil
		})
	}
	t.Logf("%d temporary files left in maildirs by crashes", left)
}

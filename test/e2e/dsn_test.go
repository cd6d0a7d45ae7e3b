package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/remote/smtptest"
	"postamt/test/suite"
)

// A report is what Python's email package makes of one.
type report struct {
	Type       string              // of the whole, and its report-type
	Parts      []string            // types of the parts
	From, To   string              // of the header
	Auto       string              // Auto-Submitted
	ReturnPath string              `json:"return_path"`
	Defects    []string            // what Python finds wrong
	Message    map[string]string   // fields of the status part about the message
	Recipients []map[string]string // and about each recipient
	Person     string              // the part for people
	Original   string              // the last part
}

const parser = `
import email, email.policy, json, sys
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
parts = list(m.iter_parts())
status = parts[1].get_payload()
print(json.dumps({
    "type": m.get_content_type() + " " + (m.get_param("report-type") or ""),
    "parts": [p.get_content_type() for p in parts],
    "from": m["From"], "to": m["To"], "auto": m["Auto-Submitted"], "return_path": m["Return-Path"],
    "defects": [repr(d) for p in m.walk() for d in p.defects],
    "message": dict(status[0].items()),
    "recipients": [dict(r.items()) for r in status[1:]],
    "person": parts[0].get_content(),
    "original": parts[2].as_string() if len(parts) > 2 else "",
}))
`

// parse reads a report, which must be one: RFC 3464 and 6522.
func parse(t *testing.T, text string) report {
	t.Helper()
	cmd := exec.Command(tool(t, "python3"), "-c", parser)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("no report: %v\n%s", err, text)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if r.Type != "multipart/report delivery-status" || len(r.Parts) < 2 || r.Parts[1] != "message/delivery-status" {
		t.Errorf("the report is %s of %s", r.Type, r.Parts)
	}
	if r.ReturnPath != "<>" || r.Auto == "" || r.Auto == "no" {
		t.Errorf("Return-Path: %s, Auto-Submitted: %s", r.ReturnPath, r.Auto)
	}
	if len(r.Defects) > 0 {
		t.Errorf("defects: %s", r.Defects)
	}
	return r
}

// about returns what the report says of an address.
func (r report) about(address string) map[string]string {
	for _, one := range r.Recipients {
		if one["Final-Recipient"] == "rfc822; "+address {
			return one
		}
	}
	return nil
}

// picky is a server that refuses hard@ for good and soft@ for now, until it is told to relent.
type picky struct {
	*smtptest.Server
	relent atomic.Bool
}

func newPicky(t *testing.T) *picky {
	t.Helper()
	p := new(picky)
	p.Server = smtptest.New(t, smtptest.Config{Reply: func(_ int, verb, args string) string {
		switch {
		case verb != "RCPT":
		case strings.Contains(args, "<hard"):
			return "550 5.1.1 never heard of"
		case strings.Contains(args, "<soft") && !p.relent.Load():
			return "450 4.2.1 come back later"
		}
		return ""
	}})
	return p
}

func (p *picky) routes() string { return fmt.Sprintf("sink.test [127.0.0.1]:%d\n", p.Addr.Port()) }

// delivered counts messages for a recipient.
func (p *picky) delivered(rcpt string) (n int) {
	for _, m := range p.Messages() {
		for _, r := range m.Rcpts {
			if strings.HasPrefix(r, "<"+rcpt+">") {
				n++
			}
		}
	}
	return n
}

// TestR11_ThreeRecipients: done, later and never in one transaction; one report, which names the last only.
func TestR11_ThreeRecipients(t *testing.T) {
	p := newPicky(t)
	s := start(t, suite.Config{Routes: p.routes()})
	id := dial(t, s.Socket).send("<alice@example.test>", []string{"<good@sink.test>", "<soft@sink.test>", "<hard@sink.test>"}, note("three"))
	r := parse(t, inbox(t, s, "alice", 1)[0])
	hard := r.about("hard@sink.test")
	if len(r.Recipients) != 1 || hard["Action"] != "failed" || hard["Status"] != "5.1.1" ||
		!strings.Contains(hard["Diagnostic-Code"], "never heard of") || !strings.Contains(r.Person, "<hard@sink.test>") {
		t.Errorf("reported %v\n%s", r.Recipients, r.Person)
	}
	if strings.Contains(r.Person, "soft") || strings.Contains(r.Person, "good") {
		t.Errorf("others are named:\n%s", r.Person)
	}
	if !strings.Contains(r.Original, "Subject: three") {
		t.Errorf("returned:\n%s", r.Original)
	}
	var path string
	await(t, "only the first message in the queue", func() bool {
		q := s.Queued()
		if len(q) == 1 {
			path = q[0]
		}
		return filepath.Base(path) == id
	})

	// What an administrator does who knows that it would work now.
	p.relent.Store(true)
	await(t, "the deferral on disk", func() bool {
		info, err := os.Stat(path)
		return err == nil && info.ModTime().After(time.Now())
	})
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	if err := s.Wake("flush"); err != nil {
		t.Fatal(err)
	}
	empty(t, s)
	for _, rcpt := range []string{"good@sink.test", "soft@sink.test"} {
		if n := p.delivered(rcpt); n != 1 {
			t.Errorf("%s has %d copies", rcpt, n)
		}
	}
	inbox(t, s, "alice", 1)
}

// TestQ15_NoReportAboutReport: neither for a message without a sender, nor when our report is refused.
func TestQ15_NoReportAboutReport(t *testing.T) {
	p := newPicky(t)
	s := start(t, suite.Config{Routes: p.routes(), Aliases: "postmaster: bob\n"})
	c := dial(t, s.Socket)
	c.send("<>", []string{"<hard@sink.test>"}, note("no sender"))
	c.send("<hard@sink.test>", []string{"<hard@sink.test>"}, note("a wrong sender"))
	empty(t, s)
	await(t, "two messages thrown away", func() bool { return strings.Count(s.Log("queued"), ": discarded rcpt=") == 2 })
	if n := strings.Count(s.Log("queued"), ": bounced "); n != 1 {
		t.Errorf("%d reports were made, want the one to hard@sink.test", n)
	}
	inbox(t, s, "alice", 0)
	inbox(t, s, "bob", 0)
}

// TestR25_Notify: nothing when NEVER, success when SUCCESS, and contradiction refused.
func TestR25_Notify(t *testing.T) {
	p := newPicky(t)
	s := start(t, suite.Config{Routes: p.routes()})
	c := dial(t, s.Socket)
	c.say("250", "MAIL FROM:<alice@example.test>")
	c.say("501", "RCPT TO:<hard@sink.test> NOTIFY=NEVER,FAILURE")
	c.say("250", "RSET")
	c.send("<alice@example.test>", []string{"<hard@sink.test> NOTIFY=NEVER", "<good@sink.test> NOTIFY=FAILURE"}, note("never"))
	empty(t, s)
	inbox(t, s, "alice", 0)

	c.send("<alice@example.test> RET=HDRS ENVID=QQ314159", []string{
		"<bob@example.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Robert+2Bx@example.test", "<good@sink.test> NOTIFY=SUCCESS",
	}, note("success"))
	empty(t, s)
	inbox(t, s, "bob", 1)
	// Local and remote success may be told together or one after the other.
	found := map[string]map[string]string{}
	for _, text := range texts(t, s.Delivered("alice")) {
		r := parse(t, text)
		if r.Message["Original-Envelope-Id"] != "QQ314159" {
			t.Errorf("about the message: %v", r.Message)
		}
		if strings.Contains(r.Original, "This is success.") || !strings.Contains(r.Original, "Subject: success") {
			t.Errorf("RET=HDRS returned:\n%s", r.Original)
		}
		for _, one := range r.Recipients {
			address := strings.TrimPrefix(one["Final-Recipient"], "rfc822; ")
			if found[address] != nil {
				t.Errorf("%s is reported twice", address)
			}
			found[address] = one
		}
	}
	if b := found["bob@example.test"]; b["Action"] != "delivered" || b["Original-Recipient"] != "rfc822; Robert+x@example.test" || !strings.HasPrefix(b["Status"], "2.") {
		t.Errorf("of bob: %v", b)
	}
	if g := found["good@sink.test"]; g["Action"] != "relayed" || len(found) != 2 {
		t.Errorf("of all: %v", found)
	}

	c.send("<alice@example.test> RET=FULL", []string{"<hard@sink.test>"}, note("everything"))
	empty(t, s)
	full := 0
	for _, text := range texts(t, s.Delivered("alice")) {
		if r := parse(t, text); r.about("hard@sink.test") != nil {
			full++
			if !strings.Contains(r.Original, "This is everything.") || r.Parts[2] != "message/rfc822" {
				t.Errorf("RET=FULL returned %s:\n%s", r.Parts, r.Original)
			}
		}
	}
	if full != 1 {
		t.Errorf("%d reports of a failure", full)
	}
}

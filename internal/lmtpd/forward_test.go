package lmtpd

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/forward"
	"postamt/internal/maildir"
	"postamt/internal/mbox"
	"postamt/internal/smtp"
	"postamt/internal/userdb"
)

func (h *host) home(user string) string { return filepath.Dir(h.maildir(user)) }

// forward gives a user a home, and a forward file there; "" takes it away.
func (h *host) forward(user, file, text string) {
	h.t.Helper()
	home := h.home(user)
	if err := os.MkdirAll(home, 0o700); err != nil {
		h.t.Fatal(err)
	}
	if text == "" {
		os.Remove(home + "/" + file)
	} else if err := os.WriteFile(home+"/"+file, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if h.homes == nil {
		h.homes = map[string]string{"bob": "", "alice": ""}
	}
	if h.homes[user] == home {
		return
	}
	h.homes[user] = home
	users := ""
	for _, u := range slices.Sorted(maps.Keys(h.homes)) {
		users += u + ":::::" + h.homes[u] + "\n"
	}
	old := h.server.Mailboxes.(*Accounts)
	boxes := accountsIn(h.t, h.dir, users)
	boxes.Target = old.Target
	h.server.Mailboxes = boxes
	h.server.Config.Delimiters = "+"
	h.server.Forwards = &forward.Files{Names: []string{".forward", ".qmail"}, Delimiters: "+"}
	h.server.Append = func(path, from string, m maildir.Message, text *io.SectionReader) error {
		return mbox.Append(context.Background(), path, mbox.Entry{Sender: from, Date: m.Arrived, ID: m.ID, Suspect: m.Suspect, Message: text}, mbox.Options{})
	}
}

// alias gives an alias NAME@example.org targets.
func (h *host) alias(name, text string) {
	h.t.Helper()
	targets, err := alias.ParseForward("aliases", text)
	if err != nil {
		h.t.Fatal(err)
	}
	boxes := h.server.Mailboxes.(*Accounts)
	before := boxes.Target
	boxes.Target = func(to addr.Mailbox, target string) (Mailbox, error) {
		base, _, _ := addr.SplitTag(to.Local, "+")
		if base != name && before != nil {
			return before(to, target)
		}
		t, err := FindTarget(targets, target)
		box := Mailbox{User: "nobody", UID: userdb.NoID, GID: userdb.NoID}
		if err == nil {
			box.SetTarget(t)
		}
		return box, err
	}
}

// The longest addresses arrive as they were, a line each: a reply that is broken elsewhere would be understood by nobody.
func TestLongAddressesInReplies(t *testing.T) {
	var list []alias.Target
	for _, a := range []string{
		strings.Repeat("+", 64) + "@" + strings.Repeat(strings.Repeat("x", 58)+".", 3) + "example",
		`"` + strings.Repeat(" ", 62) + `"@example.org`,
		strings.Repeat("\u00e4", 32) + "@" + strings.Repeat(strings.Repeat("\u00e4", 20)+".", 4) + "example",
	} {
		m, err := addr.Parse(a, true)
		if err != nil {
			t.Fatal(a, err)
		}
		list = append(list, alias.Target{Kind: alias.Address, Addr: m})
	}
	r := &smtp.Reply{Code: 551, Enhanced: smtp.EnhancedCode{5, 1, 6}}
	for len(r.Lines) < forward.MaxTargets {
		line, err := standsFor(&list[len(r.Lines)%len(list)], addr.Mailbox{}, &Mailbox{})
		if err != nil {
			t.Fatal(err)
		}
		r.Lines = append(r.Lines, line)
	}
	a, b := socketpair(t)
	defer b.Close()
	go func() {
		c := smtp.NewConn(a)
		c.WriteReply(r)
		c.Flush()
		a.Close()
	}()
	got, err := smtp.NewConn(b).ReadReply()
	if err != nil || len(got.Lines) != len(r.Lines) {
		t.Fatalf("%v, %v", got, err)
	}
	for i, line := range got.Lines {
		text, ok := strings.CutPrefix(line, smtp.InAddress)
		text, err := smtp.ParseXtext(text)
		if err != nil || !ok {
			t.Fatalf("%q: %v", line, err)
		}
		m, err := addr.Parse(text, true)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := list[i%len(list)].Addr
		if m.Domain, err = addr.ASCIIDomain(m.Domain); err != nil {
			t.Fatal(err)
		}
		if want.Domain, err = addr.ASCIIDomain(want.Domain); err != nil || m != want {
			t.Errorf("%q is not %q, %v", text, want, err)
		}
	}
}

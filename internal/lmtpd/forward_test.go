package lmtpd

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/forward"
	"postamt/internal/maildir"
	"postamt/internal/mbox"
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

package imap

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// saved are the save dates of the messages of the selected mailbox, by UID.
func (w *wire) saved() map[string]time.Time {
	w.T.Helper()
	all := map[string]time.Time{}
	for _, r := range w.do("UID FETCH 1:* SAVEDATE") {
		list, _ := values(r)
		if len(list) < 4 || list[2].text != "FETCH" {
			continue
		}
		uid, date := "", ""
		for i := 0; i+1 < len(list[3].list); i += 2 {
			switch list[3].list[i].text {
			case "UID":
				uid = list[3].list[i+1].text
			case "SAVEDATE":
				date = list[3].list[i+1].text
			}
		}
		if date == "" { // news
			continue
		}
		t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", date)
		if err != nil {
			w.T.Fatalf("%s: %v", r, err)
		}
		all[uid] = t
	}
	return all
}

// A message has the same save date with Dovecot, which takes the time of the last change of its inode, whether Dovecot or we have put it where it is. But Dovecot keeps the
// name of what it copies or moves, if there is none of that name yet: then we only know since when the message had the name.
func TestSaveDateWithDovecot(t *testing.T) {
	b := newBoth(t)
	began := time.Now().Truncate(time.Second)
	const text = "Subject: x\r\n\r\ntext\r\n"
	// As deliver and Dovecot's have named them; their internal date is of 2023. Two are there since 2020.
	for i, name := range []string{"%d.Q0h2mc9x4rvk3t7w1qz8eX6b1f0c3a9d42.h,S=10", "%d.M7P1.h"} {
		b.put(fmt.Sprintf(name, time.Now().Unix()), []byte("A: b\n\nc\nd\n"))
		b.put(fmt.Sprintf(strings.Replace(name, "7", "8", 1), 1600000000+i), []byte("A: b\n\nc\nd\n"))
	}
	ours, theirs := b.session(), b.theirs()
	ours.do("CREATE Trash")
	theirs.do("SELECT INBOX")
	ours.do("SELECT INBOX")
	old := 0
	for _, d := range ours.saved() {
		if d.Year() == 2020 {
			old++
		}
	}
	if old != 2 {
		t.Errorf("%d of %v are of 2020", old, ours.saved())
	}
	both := []*wire{ours, theirs}
	for _, w := range both {
		w.do(`APPEND INBOX "01-Jan-2001 00:00:00 +0000"`, text)
		w.do("NOOP")
		w.do("UID COPY 1:* Trash")
	}
	// Those of 2020 are among what is moved, and new where they come to.
	ours.do("UID MOVE 1:2 Trash")
	theirs.do("UID MOVE 3:4 Trash")
	check := func(mailbox string, want int, old ...string) {
		t.Helper()
		var dates []map[string]time.Time
		for _, w := range both {
			w.do("SELECT " + mailbox)
			if got := w.do("SEARCH SAVEDATESUPPORTED"); len(found(t, got)) != want {
				t.Errorf("%s: %q", mailbox, got)
			}
			hidden := 0
			if w == ours {
				hidden = len(old)
			}
			yesterday := began.AddDate(0, 0, -1).Format("2-Jan-2006")
			if got := w.do("SEARCH SAVEDBEFORE " + yesterday); len(found(t, got)) != hidden {
				t.Errorf("%s: %q", mailbox, got)
			}
			if got := w.do("SEARCH NOT SAVEDON 1-Jan-2001 SAVEDSINCE " + yesterday); len(found(t, got)) != want-hidden {
				t.Errorf("%s: %q", mailbox, got)
			}
			dates = append(dates, w.saved())
		}
		if len(dates[0]) != want || len(dates[1]) != want {
			t.Errorf("%s: %v %v", mailbox, dates[0], dates[1])
		}
		for uid, d := range dates[0] {
			if slices.Contains(old, uid) {
				if d.Year() != 2020 {
					t.Errorf("%s, %s: %v", mailbox, uid, d)
				}
				continue
			}
			if ended := time.Now(); d.Before(began) || d.After(ended) || dates[1][uid].Before(began) || dates[1][uid].After(ended) {
				t.Errorf("%s, %s: %v by us, %v by Dovecot, after %v", mailbox, uid, d, dates[1][uid], began)
			}
		}
	}
	check("INBOX", 2)
	check("Trash", 5+6+4, "6", "7") // the first that Dovecot has copied
	// It does not change with flags.
	before := ours.saved()
	ours.do(`STORE 1:* +FLAGS (\Seen)`)
	theirs.do(`STORE 1:* +FLAGS (\Flagged)`)
	ours.do("NOOP")
	for uid, d := range ours.saved() {
		if !d.Equal(before[uid]) {
			t.Errorf("%s: %v, was %v", uid, d, before[uid])
		}
	}
}

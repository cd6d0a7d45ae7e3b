package imap

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// walker does at random what clients do, in one session, in two folders. What it has put there nobody else moves, copies or removes; flags are everybody's.
type walker struct {
	*wire
	r      *rand.Rand
	name   string
	in     string // the selected folder
	n      int    // messages that it made
	mine   []*mine
	doubts int // commands that named a message that was not there under its UID
}

// mine is one copy of a message.
type mine struct{ folder, uid, subject string }

var folders = []string{"INBOX", "Other"}

func (w *walker) enter(folder string) {
	if w.in != folder {
		w.do("SELECT " + folder)
		w.in = folder
	}
}

// code is what a response code says last, as the new UID of COPYUID and APPENDUID.
func code(name string, responses ...string) string {
	for _, r := range responses {
		if _, rest, ok := strings.Cut(r, "["+name+" "); ok {
			rest, _, _ = strings.Cut(rest, "]")
			f := strings.Fields(rest)
			return f[len(f)-1]
		}
	}
	return ""
}

var words = []string{`\Seen`, `\Flagged`, `\Answered`, `\Draft`, "$Forwarded", "red", "green"}

// step is one command or two. Nothing may fail but what names a message that is gone.
func (w *walker) step() {
	w.T.Helper()
	folder := folders[w.r.IntN(2)]
	var m *mine
	if len(w.mine) > 0 {
		m = w.mine[w.r.IntN(len(w.mine))]
	}
	other := func(name string) string { return folders[1-slices.Index(folders, name)] }
	switch k := w.r.IntN(20); {
	case len(w.mine) < 5 || k < 3:
		subject := fmt.Sprintf("%s.%d", w.name, w.n)
		w.n++
		tagged, _ := w.ask(fmt.Sprintf("APPEND %s (%s)", folder, words[w.r.IntN(len(words))]), strings.ReplaceAll(text(subject), "\n", "\r\n"))
		uid := code("APPENDUID", tagged)
		if uid == "" {
			w.T.Errorf("%s: APPEND: %s", w.name, tagged)
		}
		w.mine = append(w.mine, &mine{folder, uid, subject})
	case k < 12:
		w.enter(folder)
		from := 1 + w.r.IntN(60*(1+w.n/20))
		sign := []string{"+", "-", "+", ""}[w.r.IntN(4)]
		if sign == "" { // nobody's \Deleted is to go
			sign = "+"
		}
		if tagged, _ := w.ask(fmt.Sprintf("UID STORE %d:%d %sFLAGS (%s)", from, from+w.r.IntN(20), sign, words[w.r.IntN(len(words))])); !strings.HasPrefix(tagged, "OK") && !strings.HasPrefix(tagged, "NO [EXPUNGEISSUED]") {
			w.T.Errorf("%s: STORE: %s", w.name, tagged)
		}
	case m.uid == "":
		w.do("NOOP")
	case k < 14:
		w.enter(m.folder)
		tagged, untagged := w.ask("UID COPY " + m.uid + " " + other(m.folder))
		if uid := code("COPYUID", append(untagged, tagged)...); uid != "" {
			w.mine = append(w.mine, &mine{other(m.folder), uid, m.subject})
		} else {
			w.lost(m, tagged)
		}
	case k < 17:
		w.enter(m.folder)
		tagged, untagged := w.ask("UID MOVE " + m.uid + " " + other(m.folder))
		if uid := code("COPYUID", append(untagged, tagged)...); uid != "" {
			m.folder, m.uid = other(m.folder), uid
		} else {
			w.lost(m, tagged)
		}
	default:
		w.enter(m.folder)
		tagged, untagged := w.ask("UID STORE " + m.uid + ` +FLAGS (\Deleted)`)
		if !slices.ContainsFunc(untagged, func(s string) bool { return strings.Contains(s, `\Deleted`) && strings.Contains(s, "UID "+m.uid) }) {
			w.lost(m, tagged)
			break
		}
		if tagged, _ := w.ask("UID EXPUNGE " + m.uid); !strings.HasPrefix(tagged, "OK") {
			w.T.Errorf("%s: EXPUNGE: %s", w.name, tagged)
		}
		w.mine = slices.DeleteFunc(w.mine, func(x *mine) bool { return x == m })
	}
}

// lost: the message was not there, under that UID. It is looked for when all is over.
func (w *walker) lost(m *mine, why string) {
	w.doubts++
	w.T.Logf("%s: %s %s has no UID %s: %s", w.name, m.folder, m.subject, m.uid, why)
	m.uid = ""
	w.do("NOOP")
}

// state is what a server says of a folder: its UIDVALIDITY, and each message by UID: subject, flags and keywords.
func (w *wire) state(folder string) map[string]string {
	w.T.Helper()
	all := map[string]string{}
	all["validity"] = code("UIDVALIDITY", w.do("SELECT "+folder)...)
	for _, r := range w.do("UID FETCH 1:* (FLAGS ENVELOPE)") {
		_, rest, ok := strings.Cut(r, " FETCH (")
		if !ok {
			continue
		}
		list, _ := values(rest)
		item := map[string]value{}
		for i := 0; i+1 < len(list); i += 2 {
			item[list[i].text] = list[i+1]
		}
		var flags []string
		for _, f := range item["FLAGS"].list {
			if f.text != `\Recent` {
				flags = append(flags, f.text)
			}
		}
		slices.Sort(flags)
		if e := item["ENVELOPE"].list; len(e) > 1 {
			all[item["UID"].text] = e[1].text + " " + strings.Join(flags, " ")
		}
	}
	return all
}

// Dovecot's imapd and ours serve one maildir at the same time: sessions of both append, set flags and keywords, copy, move and expunge. Afterwards both say the same
// of UIDVALIDITY, UIDs, flags and keywords, and every message is there as often as somebody has put it, with what nobody has removed.
func TestSharedWithDovecot(t *testing.T) {
	t.Parallel()
	b := newBoth(t)
	b.session().do("CREATE Other")
	long := 5 * time.Second
	if s := os.Getenv("SHARED"); s != "" {
		var err error
		long, err = time.ParseDuration(s)
		b.Must(err)
	}
	until := time.Now().Add(long)
	var walkers []*walker
	for i := range 3 {
		walkers = append(walkers, &walker{wire: b.session(), name: fmt.Sprint("ours", i)}, &walker{wire: b.theirs(), name: fmt.Sprint("theirs", i)})
	}
	var wg sync.WaitGroup
	steps := make([]int, len(walkers))
	for i, w := range walkers {
		w.r = rand.New(rand.NewPCG(uint64(i), 7))
		wg.Go(func() {
			for ; time.Now().Before(until) && !t.Failed(); steps[i]++ {
				w.step()
			}
		})
	}
	wg.Wait()
	want := map[string]int{} // by folder and subject
	doubts := 0
	for _, w := range walkers {
		doubts += w.doubts
		for _, m := range w.mine {
			want[m.folder+" "+m.subject]++
		}
	}
	t.Logf("%v steps, %d messages, %d were not there under their UID", steps, len(want), doubts)
	if slices.Min(steps) < 20 {
		t.Errorf("too few steps: %v", steps)
	}
	got := map[string]int{}
	ours, theirs := b.session(), b.theirs()
	for _, folder := range folders {
		var o, d map[string]string
		for range 5 { // a name that was missed once needs another look, and gets another UID
			o, d = ours.state(folder), theirs.state(folder)
			if maps.Equal(o, d) {
				break
			}
		}
		for uid := range d {
			if o[uid] != d[uid] {
				t.Errorf("%s: UID %s: ours %q, Dovecot's %q", folder, uid, o[uid], d[uid])
			}
		}
		for uid := range o {
			if _, ok := d[uid]; !ok {
				t.Errorf("%s: UID %s is ours alone: %q", folder, uid, o[uid])
			}
			if subject, flags, _ := strings.Cut(o[uid], " "); uid != "validity" && !strings.Contains(flags, `\Deleted`) {
				got[folder+" "+subject]++
			}
		}
	}
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%s is there %d times, not %d", k, got[k], n)
		}
	}
	for k, n := range got {
		if want[k] == 0 {
			t.Errorf("%s is there %d times, and should not be", k, n)
		}
	}
	if out := b.mailboxctl("check", b.Alice); out != "" {
		t.Errorf("mailboxctl check:\n%s", out)
	}
	if log, _ := os.ReadFile(b.dovecot.Log); strings.Contains(string(log), "Error:") || strings.Contains(string(log), "Panic:") {
		t.Errorf("Dovecot's log:\n%.3000s", log)
	}
}

// Sessions in IDLE see what is done at the other server: new messages, flags, and messages that go.
func TestIdleWithDovecot(t *testing.T) {
	t.Parallel()
	b := newBoth(t)
	b.session().append("INBOX", "", "first")
	for _, x := range []struct {
		name     string
		idle, at *wire
	}{{"ours", b.session(), b.theirs()}, {"Dovecot's", b.theirs(), b.session()}} {
		t.Run(x.name, func(t *testing.T) {
			x.idle.T, x.at.T = t, t
			x.idle.do("SELECT INBOX")
			x.at.do("SELECT INBOX")
			x.idle.Say("i IDLE")
			x.idle.Want("+ ")
			see := func(want ...string) {
				t.Helper()
				for {
					r := x.idle.response()
					if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(r, w) }) {
						return
					}
					if !strings.HasPrefix(r, "* ") {
						t.Fatalf("%q in the place of %q", r, want)
					}
				}
			}
			x.at.append("INBOX", "", "second")
			see("2 EXISTS")
			x.at.do("NOOP")
			x.at.do(`STORE 2 +FLAGS (\Flagged red)`)
			see("2 FETCH", `\Flagged`)
			x.at.do(`STORE 2 +FLAGS (\Answered)`)
			see("2 FETCH", `\Answered`, " red") // which Dovecot has named after the message had it
			x.at.do(`STORE 2 +FLAGS.SILENT (\Deleted)`)
			x.at.do("EXPUNGE")
			see("2 EXPUNGE")
			x.idle.Say("DONE")
			see("i OK")
		})
	}
}

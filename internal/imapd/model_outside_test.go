package imapd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var modelWords = []string{"alpha", "beta", "gamma", "delta", "epsilon"}

// text makes a message.
func (m *model) newText() string {
	m.files++
	s := fmt.Sprintf("From: a@example.org\r\nSubject: %s %s\r\nMessage-ID: <%d@example.org>\r\n\r\n", pick(m, modelWords), pick(m, modelWords), m.files)
	for range m.r.IntN(4) {
		s += pick(m, modelWords) + "\r\n"
	}
	return s
}

// deliver is what deliver(8) does, or Postfix.
func (m *model) deliver(f *modelFolder) {
	x := &modelMessage{f: f, flags: flagText(nil), text: m.newText()}
	x.base = fmt.Sprintf("%d.M%06dP1.host", time.Now().Unix(), m.files)
	m.note("outside: %s: %s is delivered", f.name, x.base)
	tmp := filepath.Join(f.dir, "tmp", x.base)
	if err := os.WriteFile(tmp, []byte(strings.ReplaceAll(x.text, "\r\n", "\n")), 0o600); err != nil {
		m.fail("%v", err)
	}
	if err := os.Rename(tmp, filepath.Join(f.dir, "new", x.base)); err != nil {
		m.fail("%v", err)
	}
	f.pending = append(f.pending, x)
	f.dirty = true
}

// outside is another program at work in the maildir.
func (m *model) outside() {
	f := m.anyFolder()
	if m.chance(40) {
		m.deliver(f)
		return
	}
	type file struct{ sub, name string }
	var list []file
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(f.dir, sub))
		if err != nil {
			m.fail("%v", err)
		}
		for _, e := range entries {
			list = append(list, file{sub, e.Name()})
		}
	}
	if len(list) == 0 {
		return
	}
	// Random names are not to make the order random.
	at := f.uidsOnDisk()
	slices.SortFunc(list, func(a, b file) int {
		x, y := at[modelBase(a.name)], at[modelBase(b.name)]
		if x == 0 {
			x = 1 << 30
		}
		if y == 0 {
			y = 1 << 30
		}
		if x != y {
			return int(x) - int(y)
		}
		return strings.Compare(a.name, b.name)
	})
	k := pick(m, list)
	base := modelBase(k.name)
	var x *modelMessage
	for _, y := range f.pending {
		if y.base == base {
			x = y
		}
	}
	for _, y := range f.messages {
		if uid := at[base]; !y.gone && (y.uid == uid || uid == 0 && y.base == base) {
			x = y
		}
	}
	if x == nil {
		m.fail("%s/%s/%s is no message of the model", f.name, k.sub, k.name)
	}
	f.dirty = true
	if x.seen == "" {
		x.seen = x.flags
	}
	if m.chance(25) {
		m.note("outside: %v (%s) is removed", x, k.name)
		if err := os.Remove(filepath.Join(f.dir, k.sub, k.name)); err != nil {
			m.fail("%v", err)
		}
		if x.uid == 0 {
			f.pending = slices.DeleteFunc(f.pending, func(y *modelMessage) bool { return y == x })
		} else {
			x.remove()
		}
		return
	}
	letters := ""
	if _, info, ok := strings.Cut(k.name, ":2,"); ok {
		letters = info
	}
	flags := strings.Fields(x.flags)
	for i, letter := range "DFRST" {
		name := []string{`\Draft`, `\Flagged`, `\Answered`, `\Seen`, `\Deleted`}[i]
		if !m.chance(30) {
			continue
		}
		if strings.ContainsRune(letters, letter) {
			letters = strings.ReplaceAll(letters, string(letter), "")
			flags = slices.DeleteFunc(flags, func(s string) bool { return s == name })
		} else {
			letters += string(letter)
			flags = append(flags, name)
		}
	}
	if now := flagText(flags); now == x.seen && now != x.flags {
		return // a change back before the server has looked is none to it: whether it has looked is not known here, and so neither if there is a new mod-sequence
	}
	b := []byte(letters)
	slices.Sort(b)
	to := base + ":2," + string(b)
	m.note("outside: %v (%s) becomes cur/%s", x, k.name, to)
	if err := os.Rename(filepath.Join(f.dir, k.sub, k.name), filepath.Join(f.dir, "cur", to)); err != nil {
		m.fail("%v", err)
	}
	if now := flagText(flags); now != x.flags {
		x.between++
		x.set(now)
	}
}

func modelBase(name string) string { base, _, _ := strings.Cut(name, ":"); return base }

// uidsOnDisk reads dovecot-uidlist.
func (f *modelFolder) uidsOnDisk() map[string]uint32 {
	list := make(map[string]uint32)
	b, _ := os.ReadFile(filepath.Join(f.dir, "dovecot-uidlist"))
	for i, line := range strings.Split(string(b), "\n") {
		number, _, _ := strings.Cut(line, " ")
		_, base, ok := strings.Cut(line, ":")
		if uid, err := strconv.ParseUint(number, 10, 32); err == nil && ok && i > 0 {
			list[base] = uint32(uid)
		}
	}
	return list
}

func (m *model) anyFolder() *modelFolder {
	var names []string
	for name := range m.folders {
		names = append(names, name)
	}
	slices.Sort(names)
	return m.folders[pick(m, names)]
}

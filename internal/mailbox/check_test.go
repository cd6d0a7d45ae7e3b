package mailbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckFinds(t *testing.T) {
	for what, spoil := range map[string]func(b *box, m *Mailbox){
		"2.size,S=3: has 2 octets, not what its name says": func(b *box, m *Mailbox) {
			os.WriteFile(filepath.Join(b.dir, "new", "2.size,S=3"), []byte("x\n"), 0o600)
		},
		"2.dir: is no ordinary file": func(b *box, m *Mailbox) { os.Mkdir(filepath.Join(b.dir, "new", "2.dir"), 0o700) },
		"2.key:2,a: has the letter a, which stands for no keyword": func(b *box, m *Mailbox) {
			os.WriteFile(filepath.Join(b.dir, "cur", "2.key:2,a"), nil, 0o600)
		},
		"is the same message as": func(b *box, m *Mailbox) {
			must(b.t, os.Link(filepath.Join(b.dir, "new", "1.m"), filepath.Join(b.dir, "cur", "1.m:2,S")))
		},
		"a\nb: cannot be the name of a message": func(b *box, m *Mailbox) {
			os.WriteFile(filepath.Join(b.dir, "new", "a\nb"), nil, 0o600)
		},
		"postamt.index: message 1 has other flags than its file": func(b *box, m *Mailbox) { m.index.x.messages[0].setFlags(Flagged) },
		"postamt.index: message 1 is thought to be":              func(b *box, m *Mailbox) { m.index.x.messages[0].setPlace(placeCur) },
		"dovecot-uidlist: 1.m has UID 1, and 9 in":               func(b *box, m *Mailbox) { m.index.x.messages[0].uid = 9 },
		"dovecot-uidlist: has UIDVALIDITY":                       func(b *box, m *Mailbox) { m.index.x.validity++ },
		"dovecot-uidlist: the next UID is 2, and 1 in":           func(b *box, m *Mailbox) { m.index.x.next = 1 },
	} {
		b := newBox(t)
		must(t, os.WriteFile(filepath.Join(b.dir, "new", "1.m"), []byte("x\n"), 0o600))
		m := b.open()
		if problems, err := m.Check(); len(problems) > 0 || err != nil {
			t.Error(problems, err)
		}
		spoil(b, m)
		if strings.Contains(what, "index") || strings.Contains(what, "uidlist") {
			// What is wrong in memory is mended by the next Sync that reads the directories: one look is all there is.
			c := &checking{b: m, names: map[string]string{}}
			must(t, c.directory(m.new))
			must(t, c.list())
			c.index()
			if len(c.problems) == 0 || !strings.Contains(c.problems[0].String(), what) {
				t.Errorf("%s: %v", what, c.problems)
			}
			m.index.close()
			continue
		}
		problems, err := m.Check()
		if err != nil || len(problems) == 0 || !strings.Contains(problems[0].String(), what) {
			t.Errorf("%s: %v, %v", what, problems, err)
		}
		for _, p := range problems {
			b.odd = append(b.odd, filepath.Base(p.Path))
		}
	}
}

package mailbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	store "postamt/internal/mailbox"
	"postamt/internal/maildir"
	"postamt/internal/mutf7"
	"postamt/test/peers"
	"postamt/test/suite"
)

// folder is what a server says of a folder.
type folder struct {
	validity, next uint32
	messages       map[uint32]string // by UID: subject, flags, keywords
}

// courierSees is what Courier says of a folder; it is selected.
func courierSees(t testing.TB, c *client, name string) folder {
	t.Helper()
	f := folder{messages: make(map[uint32]string)}
	for _, s := range c.do(fmt.Sprintf("SELECT %q", name)) {
		fmt.Sscanf(s, "* OK [UIDVALIDITY %d]", &f.validity)
	}
	status := strings.Join(c.do(fmt.Sprintf("STATUS %q (UIDNEXT)", name)), " ")
	_, next, _ := strings.Cut(status, "(UIDNEXT ")
	if _, err := fmt.Sscanf(next, "%d", &f.next); err != nil || f.validity == 0 {
		t.Fatal(err, f.validity, status)
	}
	for _, s := range c.do("UID FETCH 1:* (UID FLAGS ENVELOPE)") {
		_, rest, ok := strings.Cut(s, " FETCH (UID ")
		if !ok {
			continue
		}
		number, rest, _ := strings.Cut(rest, " FLAGS (")
		flags, envelope, ok := strings.Cut(rest, ") ENVELOPE (NIL ")
		uid, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil {
			t.Fatal(s, err)
		}
		words := slices.DeleteFunc(strings.Fields(flags), func(w string) bool { return w == `\Recent` })
		slices.Sort(words)
		f.messages[uint32(uid)] = strings.Join(append([]string{strings.Trim(strings.Fields(envelope)[0], `"`)}, words...), " ")
	}
	return f
}

// storeSees is the same of our store.
func storeSees(t testing.TB, b *store.Mailbox) folder {
	t.Helper()
	f := folder{messages: make(map[uint32]string)}
	f.validity, f.next, _, _ = b.Status()
	names, err := b.Keywords()
	if err != nil {
		t.Fatal(err)
	}
	for id, m := range weSee(t, b) {
		_, flags, _ := strings.Cut(m, " ")
		words := strings.Fields(flags)
		uid, _ := strconv.ParseUint(id, 10, 32)
		is, _ := b.Message(uint32(uid))
		for k, name := range names {
			if is.Keywords>>k&1 != 0 {
				words = append(words, name)
			}
		}
		slices.Sort(words)
		file, err := b.File(uint32(uid))
		if err != nil {
			t.Fatal(err)
		}
		subject, err := bufio.NewReader(file).ReadString('\n')
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		f.messages[uint32(uid)] = strings.Join(append(strings.Fields(strings.TrimPrefix(subject, "Subject:")), words...), " ")
	}
	return f
}

// maildrop is what a POP3 server says after login: unique-id and subject of each message, in their order. It is left with QUIT.
func (c *client) maildrop() (all []string) {
	c.t.Helper()
	reply := func() (lines []string) {
		if s := c.line(); !strings.HasPrefix(s, "+OK") {
			c.t.Fatal(s)
		}
		for s := c.line(); s != "."; s = c.line() {
			lines = append(lines, s)
		}
		return lines
	}
	io.WriteString(c.conn, "UIDL\r\n")
	ids := reply()
	go func() {
		w := bufio.NewWriter(c.conn)
		for i := range ids {
			fmt.Fprintf(w, "TOP %d 0\r\n", i+1)
		}
		io.WriteString(w, "QUIT\r\n")
		w.Flush()
	}()
	for i, id := range ids {
		number, id, _ := strings.Cut(id, " ")
		if number != strconv.Itoa(i+1) {
			c.t.Fatalf("%s is message %d", number, i+1)
		}
		for _, s := range reply() {
			if subject, ok := strings.CutPrefix(s, "Subject: "); ok {
				all = append(all, id+" "+subject)
			}
		}
	}
	if len(all) != len(ids) {
		c.t.Fatalf("%d unique-ids, %d subjects", len(ids), len(all))
	}
	return all
}

func courierMaildrop(t testing.TB, s *peers.CourierServer) []string {
	t.Helper()
	c := dial(t, s.POP3)
	for _, line := range []string{"USER alice", "PASS secret"} {
		io.WriteString(c.conn, line+"\r\n")
		if s := c.line(); !strings.HasPrefix(s, "+OK") {
			t.Fatal(s)
		}
	}
	return c.maildrop()
}

// pop3dMaildrop is the same of our program, run by the owner of the mailbox.
func pop3dMaildrop(t testing.TB, maildir string, owner *syscall.Credential) []string {
	t.Helper()
	bin, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pop3d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program, err := os.ReadFile(bin + "/pop3d") // the tree may be closed to others
	if err == nil {
		err = os.WriteFile(dir+"/pop3d", program, 0o755)
	}
	if err == nil {
		err = os.WriteFile(dir+"/conf", []byte("hostname mx.example.org\nlog stderr\n"), 0o644)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	cmd := exec.Command(dir+"/pop3d", "-C", dir+"/conf", "-session", maildir)
	var log strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = theirs, theirs, &log, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("pop3d: %v\n%s", err, log.String())
		}
	}()
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.line()
	return c.maildrop()
}

// openFolder opens a folder by the name that clients see, as our servers do.
func (m *mailbox) openFolder(name string) *store.Mailbox {
	m.t.Helper()
	dir, f, err := maildir.OpenRoot(m.dir, nil).Open(name)
	if err != nil {
		m.t.Fatal(err)
	}
	dir.Close()
	if f.Dir == "." {
		f.Dir = ""
	}
	b, err := store.Open(m.dir, f.Dir, store.Options{Report: func(err error) { m.t.Error(err) }})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { b.Close() })
	return b
}

// sameFolder compares what two servers say, but for the UIDs from other on.
func sameFolder(t testing.TB, what string, got, want folder, other uint32) {
	t.Helper()
	if got.validity != want.validity {
		t.Errorf("%s: UIDVALIDITY %d, want %d", what, got.validity, want.validity)
	}
	wrong := 0
	for _, f := range []folder{got, want} {
		for uid := range f.messages {
			if uid < other && got.messages[uid] != want.messages[uid] {
				if wrong++; wrong < 10 {
					t.Errorf("%s: UID %d: %q, want %q", what, uid, got.messages[uid], want.messages[uid])
				}
			}
		}
	}
}

// without is a folder without some flags and keywords.
func (f folder) without(which ...string) folder {
	all := make(map[uint32]string)
	for uid, words := range f.messages {
		all[uid] = strings.Join(slices.DeleteFunc(strings.Split(words, " "), func(w string) bool { return slices.Contains(which, w) }), " ")
	}
	f.messages = all
	return f
}

// toCourier is the command in maildir(5).
const toCourier = `awk 'NR == 1 { v = substr($2, 2); n = substr($3, 2) + 0; next }
{ id = $1 + 0; sub(/[^:]*:/, ""); line[NR] = id " " $0; if (id >= n) n = id + 1 }
END { print 1, v, n; for (i = 2; i <= NR; i++) print line[i] }' dovecot-uidlist >courierimapuiddb`

// One maildir of 10,000 messages goes from Courier to us, and back: what its IMAP and POP3 clients were told, ours are told.
func TestTenThousandWithCourier(t *testing.T) {
	many := 10_000
	if testing.Short() {
		many = 500
	}
	m, root := newMaildir(t)
	s := peers.Courier(t, peers.Config{Maildirs: root, Users: []string{"alice"}})
	home, err := os.Stat(root + "/alice")
	if err != nil {
		t.Fatal(err)
	}
	owner := &syscall.Credential{Uid: home.Sys().(*syscall.Stat_t).Uid, Gid: home.Sys().(*syscall.Stat_t).Gid}
	own := func() {
		t.Helper()
		if err := filepath.WalkDir(m.path, func(p string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(p, int(owner.Uid), int(owner.Gid)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	delivered := 0
	deliver := func(n int) {
		t.Helper()
		for range n {
			delivered++
			// Not in the order of time, in which both number what they see at once.
			m.put(fmt.Sprintf("new/%d.Q0h2mc9x4rvk3t%06dX6b1f0c3a9d42.mx.example.org,S=22", 1764000000+r.IntN(100_000), delivered), fmt.Sprintf("%06d", delivered))
		}
		own()
	}

	// Courier.
	deliver(many / 2)
	c := dial(t, s.IMAP)
	c.do("LOGIN alice secret")
	c.do("SELECT INBOX")
	deliver(many / 2)
	courierMaildrop(t, s) // POP3 numbers what IMAP has not seen
	c.do("SELECT INBOX")
	some := func() string { from := 1 + r.IntN(many); return fmt.Sprint(from, ":", min(from+many/20, many)) }
	for _, words := range []string{`\Seen`, `\Flagged \Answered`, "$Label1", "Work NonJunk", `\Draft`, "Work", `\Deleted`} {
		for range 2 {
			c.do(fmt.Sprintf("UID STORE %s +FLAGS.SILENT (%s)", some(), words))
		}
	}
	c.do(fmt.Sprintf("UID STORE %s -FLAGS.SILENT (Work $Label1)", some()))
	c.do("EXPUNGE")
	c.do("CREATE INBOX.Sent")
	c.do(fmt.Sprintf("CREATE %q", mutf7.Encode("INBOX.Entwürfe.&")))
	c.do("SUBSCRIBE INBOX.Sent")
	c.do("SUBSCRIBE INBOX")
	c.do("UID COPY 10:200 INBOX.Sent")
	c.do("SELECT INBOX.Sent")
	c.do(`STORE 1:20 +FLAGS (\Flagged $Label1 sent)`)
	c.do(`STORE 30:40 +FLAGS (\Deleted)`)
	c.do("EXPUNGE")
	deliver(10)
	drop := courierMaildrop(t, s)
	inbox, sent := courierSees(t, c, "INBOX"), courierSees(t, c, "INBOX.Sent")
	for word, f := range map[string]folder{`\Seen`: inbox, "$Label1": inbox, "Work": inbox, "sent": sent} {
		if all := strings.Join(slices.Collect(maps.Values(f.messages)), "\n"); !strings.Contains(all, word) {
			t.Errorf("Courier shows no %s", word)
		}
	}
	c.do("LOGOUT")

	// We. The first to open the maildir is pop3d.
	if got := pop3dMaildrop(t, m.path, owner); !slices.Equal(got, drop) {
		t.Errorf("pop3d has %d messages, Courier %d:\n%.300q\n%.300q", len(got), len(drop), got, drop)
	}
	b := m.openFolder("INBOX")
	ours := storeSees(t, b)
	sameFolder(t, "INBOX", ours, inbox, inbox.next)
	if ours.next != inbox.next {
		t.Errorf("UIDNEXT %d, want %d", ours.next, inbox.next)
	}
	sameFolder(t, "Sent", storeSees(t, m.openFolder("Sent")), sent, sent.next)
	folders := maildir.OpenRoot(m.dir, nil)
	list, err := folders.Folders()
	var names []string
	for _, f := range list {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	if want := []string{"Entwürfe.&", "INBOX", "Sent"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("folders %q, %v", names, err)
	}
	if got, err := folders.Subscriptions(); err != nil || !slices.Equal(got, []string{"INBOX", "Sent"}) {
		t.Errorf("subscriptions %q, %v", got, err)
	}
	uids := b.UIDs()
	with := func(word string) (list []uint32) {
		for _, uid := range uids[50:] {
			if strings.Contains(inbox.messages[uid], word) && len(list) < 20 {
				list = append(list, uid)
			}
		}
		return list
	}
	for _, x := range []struct {
		uids     []uint32
		op       store.Op
		f        store.Flags
		keywords []string
	}{{uids[:20], store.Add, store.Flagged, nil}, {with(`\Seen`), store.Remove, store.Seen, nil}, {uids[10:30], store.Add, 0, []string{"ours"}}, {with("Work"), store.Remove, 0, []string{"Work"}}} {
		if changed, err := b.SetFlags(0, x.uids, x.op, x.f, x.keywords); err != nil || len(changed) == 0 {
			t.Fatal(len(changed), err)
		}
	}
	if failed, err := b.Expunge(ours.validity, uids[40:50]); err != nil {
		t.Fatal(failed, err)
	}
	for range 2 {
		deliver(15)
		if err := b.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	own()

	// Courier again. UIDs and unique-ids of what it had numbered, and all flags, are as they were; keywords are as it left them; it gives UIDs of its own to what
	// came meanwhile, which are not ours.
	flags, keywords := []string{`\Seen`, `\Flagged`, `\Answered`, `\Draft`, `\Deleted`}, []string{"ours", "Work", "NonJunk", "$Label1"}
	ours = storeSees(t, b)
	c = dial(t, s.IMAP)
	c.do("LOGIN alice secret")
	again := courierSees(t, c, "INBOX")
	sameFolder(t, "Courier again", again.without(keywords...), ours.without(keywords...), inbox.next)
	if maps.Equal(again.without(keywords...).messages, ours.without(keywords...).messages) {
		t.Error("Courier has given new messages our UIDs: maildir(5) says it may not")
	}
	maps.DeleteFunc(inbox.messages, func(uid uint32, _ string) bool { return again.messages[uid] == "" }) // removed by us
	sameFolder(t, "keywords of Courier again", again.without(flags...), inbox.without(flags...), inbox.next)
	ids := make(map[string]bool)
	for _, id := range courierMaildrop(t, s) {
		ids[id] = true
	}
	for _, id := range pop3dMaildrop(t, m.path, owner) {
		if strings.HasPrefix(id, "UID") && !ids[id] {
			t.Fatalf("%s is not among Courier's unique-ids", id)
		}
	}

	// With our list in its form all UIDs agree.
	c.do("LOGOUT")
	page, err := os.ReadFile("../../man/maildir.5")
	if err != nil || !strings.Contains(string(page), toCourier) {
		t.Error("maildir(5) has another command", err)
	}
	convert := exec.Command("sh", "-c", toCourier)
	convert.Dir = m.path
	if out, err := convert.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	own()
	c = dial(t, s.IMAP)
	c.do("LOGIN alice secret")
	again = courierSees(t, c, "INBOX")
	sameFolder(t, "Courier with our UIDs", again.without(keywords...), ours.without(keywords...), 1<<32-1)
	if again.next != ours.next {
		t.Errorf("UIDNEXT %d, want %d", again.next, ours.next)
	}
	// It knows no letters, and drops those of a file that it renames.
	c.do(fmt.Sprintf(`UID STORE %d +FLAGS (\Draft)`, uids[15]))
	if got := storeSees(t, b).messages[uids[15]]; strings.Contains(got, "ours") || !strings.Contains(got, `\Draft`) {
		t.Errorf("UID %d is %q", uids[15], got)
	}
}

package imapd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// makeFolder makes a folder as another program does.
func makeFolder(t testing.TB, path, name string) {
	t.Helper()
	for _, d := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(path, "."+name, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// deliver puts a message into a folder as another program does; "" is INBOX.
func deliver(t testing.TB, path, folder string, n int) {
	t.Helper()
	name := fmt.Sprintf("%d.M%d.h", 1700000000+n, n)
	tmp := filepath.Join(path, "tmp", name)
	if folder != "" {
		folder = "." + folder
	}
	if err := os.WriteFile(tmp, []byte("Subject: x\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(path, folder, "new", name)); err != nil {
		t.Fatal(err)
	}
}

// What other programs do is told as what other sessions do, and a mailbox is watched as long as it is there.
func TestNotifyOfOthers(t *testing.T) {
	open, path := openWatched(t)
	c := speak(t.Context(), t, NewServer(testConfig()), open)
	c.say("a NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MessageNew MessageExpunge MailboxName SubscriptionChange))")
	c.until("a OK")
	makeFolder(t, path, "work")
	c.until(`* LIST (\HasNoChildren) "." work`)
	deliver(t, path, "work", 1)
	c.until("* STATUS work (MESSAGES 1 UIDNEXT 2")
	if err := os.WriteFile(path+"/subscriptions", []byte("work\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.until(`* LIST (\HasNoChildren \Subscribed) "." work`)
	if err := os.Rename(path+"/.work", path+"/.play"); err != nil {
		t.Fatal(err)
	}
	c.until(`* LIST (\HasNoChildren) "." play ("OLDNAME" (work))`)
	deliver(t, path, "play", 2)
	c.until("* STATUS play (MESSAGES 2 ")
	c.say("b SELECT play")
	c.until("b OK")
	deliver(t, path, "play", 3)
	c.until("* 3 EXISTS")
	os.RemoveAll(path + "/.play")
	c.until("* BYE [NONEXISTENT]")
}

// More mailboxes than are watched are refused, and, when they become so many, no longer watched.
func TestNotifyOverflow(t *testing.T) {
	open, path := openWatched(t)
	os.Mkdir(path, 0o700)
	for i := range maxWatched {
		makeFolder(t, path, fmt.Sprintf("f%d", i))
	}
	c := speak(t.Context(), t, NewServer(testConfig()), open)
	c.say("z NOTIFY SET (personal (MailboxName))")
	c.until("z OK")
	c.say("a NOTIFY SET (personal (MessageNew MessageExpunge))")
	c.until("a NO [NOTIFICATIONOVERFLOW]")
	// What was set before holds.
	makeFolder(t, path, "told")
	c.until(`* LIST (\HasNoChildren) "." told`)
	if err := os.RemoveAll(path + "/.told"); err != nil {
		t.Fatal(err)
	}
	c.until(`* LIST (\NonExistent) "." told`)
	if err := os.RemoveAll(path + "/.f0"); err != nil {
		t.Fatal(err)
	}
	c.say("b NOTIFY SET (personal (MessageNew MessageExpunge))")
	c.until("b OK")
	makeFolder(t, path, "f0")
	c.until("* OK [NOTIFICATIONOVERFLOW]")
	deliver(t, path, "f1", 1)
	c.say("c NOOP")
	for _, l := range c.until("c OK") {
		if strings.Contains(l, "STATUS") {
			t.Error(l)
		}
	}
	c.say("d NOTIFY SET (subtree f1 (MessageNew MessageExpunge))")
	c.until("d OK")
	deliver(t, path, "f1", 2)
	c.until("* STATUS f1 (MESSAGES 2 ")
}

// News does not disturb a command that is half sent, nor one whose literal is awaited, and is told after it.
func TestNotifyHalfCommand(t *testing.T) {
	open, path := openWatched(t)
	c := speak(t.Context(), t, NewServer(testConfig()), open)
	c.say("a NOTIFY SET (selected (MessageNew MessageExpunge))")
	c.say("b SELECT INBOX")
	c.until("b OK")
	last := ""
	told := func(lines []string) {
		for _, l := range lines {
			if strings.HasSuffix(l, " EXISTS") {
				last = l
			}
		}
	}
	for i := range 20 {
		c.w([]byte("c APP"))
		deliver(t, path, "", 4*i)
		c.w([]byte("END INBOX {12}\r\n"))
		deliver(t, path, "", 4*i+1)
		told(c.until("+ "))
		deliver(t, path, "", 4*i+2)
		c.w([]byte("Subject: "))
		deliver(t, path, "", 4*i+3)
		c.say("x\r\n")
		told(c.until("c OK"))
	}
	c.say("d NOOP")
	if told(c.until("d OK")); last != "* 100 EXISTS" {
		t.Error(last)
	}
}

// A server that stops says so to who waits for notifications.
func TestDrainNotify(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := speak(ctx, t, NewServer(testConfig()), newOpen(t))
	c.say("a NOTIFY SET (personal (MessageNew MessageExpunge))")
	c.until("a OK")
	cancel()
	c.until("* BYE [UNAVAILABLE] the server stops")
}

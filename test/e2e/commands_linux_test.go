package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/proc"
	"postamt/test/suite"
)

// part finds a process of deliver by its title, "deliver: runner", and the user it is; 0 if there is none.
func part(s *suite.System, role string, uid int) int {
	for _, pid := range proc.Tree(s.Pid("deliver")) {
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		var st syscall.Stat_t
		if bytes.HasPrefix(title, []byte("deliver: "+role)) && syscall.Stat(fmt.Sprintf("/proc/%d", pid), &st) == nil && int(st.Uid) == uid {
			return pid
		}
	}
	return 0
}

// configure changes the configuration of a System that runs, and starts deliver anew.
func configure(t *testing.T, s *suite.System, old, new string) {
	t.Helper()
	text, err := os.ReadFile(s.Conf)
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("no %q in the configuration, %v", old, err)
	}
	if err := errors.Join(os.WriteFile(s.Conf, []byte(strings.Replace(string(text), old, new, 1)), 0o644), s.Terminate("deliver"), s.Launch("deliver")); err != nil {
		t.Fatal(err)
	}
}

// absent: what must not have been made. It is looked for when mail that was sent later has arrived.
func absent(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}

// D03, D07: addresses are data. Recipients that look like targets are nobody, and what a command is told of others means nothing to a shell.
func TestD03D07_HostileAddresses(t *testing.T) {
	s, dir := split(t, suite.Config{Aliases: "postmaster: alice\nrun: \"|cd DIR && env > env.$$ && eval true $SENDER $RECIPIENT $EXTENSION $LOCAL && mv env.$$ ran.$$\"\n"})
	asUser(t, s, 1, ".forward", `"|eval true $SENDER $EXTENSION $EXT $DEFAULT && cat > ~/ran"`+"\n")
	const touch = "touch canary" // where the command runs
	c := dial(t, s.Addr)
	c.say("250", "MAIL FROM:<sender@client.test>")
	for _, to := range []string{`"|/bin/sh"@example.test`, `"|` + touch + `"@example.test`, `"/etc/passwd"@example.test`, `/etc/passwd@example.test`, `|` + touch + `@example.test`,
		`":include:/x"@example.test`, `"~root/x"@example.test`, `~root/x@example.test`, `"\\\\alice"@example.test`, `"` + dir + `/canary"@example.test`, `":fail:"@example.test`} {
		c.raw("RCPT TO:<" + to + ">\r\n")
		if r := c.reply(); !strings.HasPrefix(r, "550 5.1.1 ") && !strings.HasPrefix(r, "501 ") && !strings.HasPrefix(r, "553 ") {
			t.Errorf("%s: %s", to, r)
		}
	}
	c.raw("RCPT TO:<\"run\n" + touch + "\"@example.test>\r\n")
	if r := c.reply(); r[0] != '5' {
		t.Errorf("a newline in a local part: %s", r)
		c.reply()
	}
	c.say("250", "RSET")
	evil := []string{"() { :;}; " + touch, "$(" + touch + ")", "`" + touch + "`", "; " + touch + " #", "' ; " + touch + " ; '", "-oQ canary", "|" + touch, "x\\\"; " + touch + "; \\\"", "&& " + touch + " &&"}
	for _, e := range evil {
		for _, to := range []string{"run", "bob"} {
			c.send(`<"`+e+`"@client.test>`, []string{`<"` + to + "+" + e + `"@example.test>`}, note("data"))
		}
	}
	await(t, "commands", func() bool { found, _ := filepath.Glob(dir + "/ran.*"); return len(found) == len(evil) })
	owned(t, firstUID+1, filepath.Join(s.Dir, "home/bob/ran"))
	empty(t, s)
	absent(t, dir+"/canary", "/canary", filepath.Join(s.Dir, "home/bob/canary"))
	found, _ := filepath.Glob(dir + "/ran.*")
	for _, env := range texts(t, found) {
		for line := range strings.Lines(env) {
			if key, value, _ := strings.Cut(strings.TrimSpace(line), "="); strings.ContainsAny(value, "`$;|&()'\" \\") && key != "RPLINE" && key != "DTLINE" && key != "UFLINE" && key != "_" {
				t.Errorf("its environment has %s", line)
			}
		}
	}
}

// D04, D05, as root and users: while anybody else could have written a file that has commands executed, or might have, its mail waits, and nothing runs.
func TestD04D05_UnsafeFiles(t *testing.T) {
	type unsafe struct {
		name       string
		make, mend func(home, file string, uid int) error
	}
	chmod := func(of string, mode os.FileMode) func(string, string, int) error {
		return func(home, file string, _ int) error {
			return os.Chmod(map[string]string{"home": home, "file": file}[of], mode)
		}
	}
	chown := func(to func(uid int) int) func(string, string, int) error {
		return func(_, file string, uid int) error { return os.Chown(file, to(uid), to(uid)) }
	}
	away := func(home, file string) string { return filepath.Dir(home) + "/away-" + filepath.Base(home) }
	rewrite := func(text func(old string) string) func(string, string, int) error {
		return func(_, file string, uid int) error {
			old, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			os.Remove(file)
			return errors.Join(os.WriteFile(file, []byte(text(string(old))), 0o600), os.Chown(file, uid, uid))
		}
	}
	// The text comes back in a file of its own.
	replaced := func(by func(file string) error) func(string, string, int) error {
		return func(_, file string, uid int) error {
			return errors.Join(os.Rename(file, file+".kept"), by(file), os.Lchown(file, uid, uid))
		}
	}
	back := func(_, file string, _ int) error { return os.Rename(file+".kept", file) }
	cases := []unsafe{
		{"group", chmod("file", 0o620), chmod("file", 0o600)},
		{"others", chmod("file", 0o602), chmod("file", 0o600)},
		{"grouphome", chmod("home", 0o770), chmod("home", 0o700)},
		{"otherhome", chmod("home", 0o707), chmod("home", 0o700)},
		{"sticky", chmod("home", os.ModeSticky|0o700), chmod("home", 0o700)},
		{"stranger", chown(func(int) int { return firstUID + 99 }), chown(func(uid int) int { return uid })},
		{"rootsown", func(_, file string, uid int) error { return errors.Join(os.Chmod(file, 0o600), os.Chown(file, 0, 0)) }, func(_, file string, uid int) error { return os.Chown(file, uid, uid) }},
		{"symlink", replaced(func(file string) error { return os.Symlink(file+".kept", file) }), back},
		{"fifo", replaced(func(file string) error { return syscall.Mkfifo(file, 0o600) }), back},
		{"directory", replaced(func(file string) error { return os.Mkdir(file, 0o700) }), func(home, file string, uid int) error { return errors.Join(os.Remove(file), back(home, file, uid)) }},
		{"large", func(_, file string, _ int) error { return os.Truncate(file, 100<<20) }, rewrite(func(old string) string { text, _, _ := strings.Cut(old, "\x00"); return text })},
		{"nul", rewrite(func(old string) string { return old + "\x00" }), rewrite(func(old string) string { return strings.TrimSuffix(old, "\x00") })},
		{"slip", rewrite(func(old string) string { return old + "a..b\n" }), rewrite(func(old string) string { return strings.TrimSuffix(old, "a..b\n") })},
		{"include", rewrite(func(old string) string { return old + ":include:/etc/passwd\n" }), rewrite(func(old string) string { return strings.TrimSuffix(old, ":include:/etc/passwd\n") })},
		{"gone", func(home, file string, _ int) error { return os.Rename(home, away(home, file)) }, func(home, file string, _ int) error { return os.Rename(away(home, file), home) }},
	}
	users := []string{"alice"}
	for _, u := range cases {
		users = append(users, u.name)
	}
	s, dir := split(t, suite.Config{Users: users, Aliases: "postmaster: alice\nrun: \"|cat > DIR/tmp && mv DIR/tmp DIR/ran\"\n"})
	home := func(u string) string { return filepath.Join(s.Dir, "home", u) }
	for i, u := range cases {
		asUser(t, s, i+1, ".forward", `"|cat > tmp && mv tmp ran"`+"\n")
		if err := u.make(home(u.name), home(u.name)+"/.forward", firstUID+i+1); err != nil {
			t.Fatal(err)
		}
	}
	// An alias file of somebody who is not root.
	if err := os.Chown(s.Dir+"/aliases", firstUID, firstUID); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.Addr)
	for _, u := range append(users[1:], "run") {
		c.send("<sender@client.test>", []string{"<" + u + "@example.test>"}, note("waits"))
	}
	for _, u := range append(users[1:], "run") {
		await(t, "refusal for "+u, func() bool { return strings.Contains(s.Log("queued"), "deferred rcpt=<"+u+"@example.test>") })
		absent(t, home(u)+"/ran", away(home(u), "")+"/ran")
	}
	absent(t, dir+"/ran")
	await(t, "what is wrong with the alias file", func() bool { // the monitor's line comes by another way than the answer
		return strings.Contains(s.Log("deliver"), fmt.Sprintf("aliases belongs to uid %d: no command or file in it is delivered to (chown root mends it)", firstUID))
	})
	os.Chown(s.Dir+"/aliases", 0, 0)
	for i, u := range cases {
		if err := u.mend(home(u.name), home(u.name)+"/.forward", firstUID+i+1); err != nil {
			t.Fatalf("%s: %v", u.name, err)
		}
	}
	for i, u := range cases {
		if got := owned(t, firstUID+i+1, home(u.name)+"/ran"); !strings.Contains(got, "Subject: waits\n") {
			t.Errorf("%s got %q", u.name, got)
		}
	}
	owned(t, aliasUID, dir+"/ran")
	empty(t, s)
	for _, u := range cases {
		if n := len(s.Delivered(u.name)); n != 0 {
			t.Errorf("%s has %d messages in the mailbox", u.name, n)
		}
	}
}

// D10: nothing is executed as root or a system account, nor as an account that users share; what they send on goes on.
func TestD10_WhoRunsNothing(t *testing.T) {
	const sharedUID = 60207
	k := sinkAt(t, "127.0.0.1")
	s, dir := split(t, suite.Config{Users: []string{"alice", "zero", "low", "wheel", "shared"}, Aliases: "postmaster: alice\nrun: \"|touch DIR/ran\"\n",
		Settings: fmt.Sprintf("mailbox_user %d:%d\n", sharedUID, sharedUID), Routes: fmt.Sprintf("sink.test [127.0.0.1]:%s\n", k.port())})
	canary := func(u string) string { return filepath.Join(s.Dir, "home", u, "ran") }
	text := fmt.Sprintf("alice::%d:%d::%s/home/alice\n", firstUID, firstUID, s.Dir)
	for u, ids := range map[string][2]int{"zero": {0, 0}, "low": {50, 50}, "wheel": {firstUID + 3, 0}, "shared": {sharedUID, sharedUID}} {
		home := filepath.Join(s.Dir, "home", u)
		file := home + "/.forward"
		words := "\"|touch " + canary(u) + "\", /" + canary(u) + "-file, far+" + u + "@sink.test\n"
		if u == "shared" {
			words = "\\shared, " + words
		}
		if err := errors.Join(os.WriteFile(file, []byte(words), 0o600), os.Chown(file, ids[0], ids[1]), os.Chown(home, ids[0], ids[1])); err != nil {
			t.Fatal(err)
		}
		if u == "shared" {
			text += u + ":::::" + home + "\n"
		} else {
			text += fmt.Sprintf("%s::%d:%d::%s\n", u, ids[0], ids[1], home)
		}
	}
	if err := os.WriteFile(s.Dir+"/users.new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.Dir+"/users.new", s.Dir+"/users"); err != nil {
		t.Fatal(err)
	}
	configure(t, s, fmt.Sprintf("alias_user %d:%d", aliasUID, aliasUID), "alias_user root")
	c := dial(t, s.Addr)
	for _, u := range []string{"zero", "low", "wheel", "shared", "run"} {
		c.send("<sender@client.test>", []string{"<" + u + "@example.test>"}, note("to "+u))
	}
	for _, u := range []string{"zero", "low", "wheel", "shared", "run"} {
		await(t, "refusal for "+u, func() bool { return strings.Contains(s.Log("queued"), "deferred rcpt=<"+u+"@example.test>") })
	}
	inbox(t, s, "shared", 1)
	if sent := k.await(t, 1); sent[0].to[0] != "far+shared@sink.test" {
		t.Errorf("sent to %q", sent[0].to)
	}
	for _, want := range []string{"user zero: uid 0: mail for root needs an alias", "user low: uid 50 is below the least one", "user wheel: gid 0", "run@example.test: uid 0, gid 0: root is never a user"} {
		if !strings.Contains(s.Log("deliver"), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if !strings.Contains(s.Log("queued"), "commands are only run for users with a user id of their own") {
		t.Error("who shares a user id is not told")
	}
	configure(t, s, "alias_user root", fmt.Sprintf("alias_user %d:%d", aliasUID, aliasUID))
	await(t, "the alias's command", func() bool { _, err := os.Stat(dir + "/ran"); return err == nil && len(s.Queued()) == 4 })
	for _, u := range []string{"zero", "low", "wheel", "shared"} {
		absent(t, canary(u), canary(u)+"-file")
	}
	if n := len(k.messages()); n != 1 {
		t.Errorf("%d messages were sent on", n)
	}
	if err := s.Terminate("queued"); err != nil {
		t.Error(err)
	}
	if n := len(s.Queued()); n != 4 {
		t.Errorf("%d messages are in the queue, want those of four users", n)
	}
	for _, path := range s.Queued() { // they wait for ever, that is for five days
		if err := errors.Join(os.Remove(path), os.Remove(filepath.Join(s.Queue, "log", filepath.Base(path)))); err != nil {
			t.Error(err)
		}
	}
}

// D08, D20: a command of one user hangs, with fifty messages waiting for it. Mailboxes, his own among them, and other commands have their mail at once. When
// its time is over it is killed, and what takes its place gets all.
func TestD20_OneCommandHangs(t *testing.T) {
	const messages = 50
	s, dir := split(t, suite.Config{Users: []string{"alice", "bob", "carol"}, Aliases: "postmaster: alice\nrun: |cat >DIR/ran\n", Settings: "command_timeout 10s\n"})
	home := func(u string) string { return filepath.Join(s.Dir, "home", u) }
	asUser(t, s, 0, ".forward", `\alice, "|echo $$ >> pids; sleep 1000 & sleep 1000"`+"\n")
	asUser(t, s, 2, ".forward", `"|cat > ran"`+"\n")
	c := dial(t, s.Addr)
	for i := range messages {
		c.send("<sender@client.test>", []string{fmt.Sprintf("<alice+%d@example.test>", i)}, note(fmt.Sprint("hangs ", i)))
	}
	owned(t, firstUID, home("alice")+"/pids")
	begun := time.Now()
	c.send("<sender@client.test>", []string{"<bob@example.test>", "<carol@example.test>", "<run@example.test>"}, note("goes through"))
	inbox(t, s, "bob", 1)
	owned(t, firstUID+2, home("carol")+"/ran")
	owned(t, aliasUID, dir+"/ran")
	inbox(t, s, "alice", messages)
	took := time.Since(begun)
	pids := strings.Fields(owned(t, firstUID, home("alice")+"/pids"))
	if took < 8*time.Second && len(pids) > 4 {
		t.Errorf("%d of his commands run at once", len(pids))
	}
	if took > 8*time.Second {
		t.Errorf("the others waited %v", took)
	}
	asUser(t, s, 0, ".forward", `\alice, "|cat > tmp.$$ && mv tmp.$$ got.$$"`+"\n")
	empty(t, s)
	found, _ := filepath.Glob(home("alice") + "/got.*")
	seen := map[string]int{}
	for _, text := range texts(t, found) {
		_, rest, _ := strings.Cut(text, "Subject: ")
		subject, _, _ := strings.Cut(rest, "\n")
		seen[subject]++
	}
	if len(seen) != messages || len(found) != messages {
		t.Errorf("%d of %d messages, in %d files", len(seen), messages, len(found))
	}
	inbox(t, s, "alice", messages)
	// Those that were killed are gone with their children.
	for _, pid := range proc.Tree(s.Pid("deliver")) {
		if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.HasPrefix(line, []byte("sleep")) {
			t.Errorf("%q lives", line)
		}
	}
}

// What is large, for a command that does not read it; runners that have nothing to do, and that are told to end; what a command inherits.
func TestRunnerComesAndGoes(t *testing.T) {
	s, _ := split(t, suite.Config{Aliases: "postmaster: alice\nrun: |exit 0\n", Settings: "worker_idle 1s\nmessage_size_limit 41943040\n"})
	home := filepath.Join(s.Dir, "home/alice")
	asUser(t, s, 0, ".forward", `\alice, "|ls -l /proc/self/fd > ~/fds; grep -E 'Sig(Ign|Blk)|NoNewPrivs|Seccomp:' /proc/self/status > ~/status; ulimit -f > ~/ulimit; touch /tmp/x.$$ && rm /tmp/x.$$ && /bin/true && touch ~/ran"`+"\n")
	c := dial(t, s.Addr)
	large := append(note("large"), bytes.Repeat([]byte(strings.Repeat("0123456789", 7)+"\r\n"), 20<<20/72)...)
	c.send("<sender@client.test>", []string{"<run@example.test>", "<alice@example.test>"}, large)
	await(t, "a command", func() bool { _, err := os.Stat(home + "/ran"); return err == nil })
	empty(t, s)
	if got := inbox(t, s, "alice", 1); !strings.HasSuffix(got[0], string(unix(large))) {
		t.Errorf("the mailbox has %d octets", len(got[0]))
	}
	for _, line := range strings.Split(owned(t, firstUID, home+"/fds"), "\n") {
		if f := strings.Fields(line); len(f) > 3 && !strings.Contains(line, "pipe:") && !strings.Contains(line, "/home/alice/fds") && !strings.Contains(line, "/proc/") {
			t.Errorf("a command has open: %s", line)
		}
	}
	status := owned(t, firstUID, home+"/status")
	ours, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	ignored := regexp.MustCompile(`SigIgn:.*`).FindString(string(ours)) // what was ignored before any of this, as make has it of signal 32
	for _, want := range []string{"SigBlk:\t0000000000000000", ignored, "NoNewPrivs:\t1", "Seccomp:\t0"} {
		if !strings.Contains(status, want) {
			t.Errorf("no %q in %q", want, status)
		}
	}
	if got := owned(t, firstUID, home+"/ulimit"); got != "unlimited\n" {
		t.Errorf("its files may have %s", got)
	}
	await(t, "runners that leave", func() bool {
		return part(s, "runner", firstUID) == 0 && part(s, "runner", aliasUID) == 0 && strings.Contains(s.Log("deliver"), "state=left")
	})
	// TERM: a command under way is finished, and the runner is gone with the rest.
	asUser(t, s, 0, ".forward", `"|touch ~/begun; sleep 1; echo $$ >> ~/ended"`+"\n")
	c.send("<sender@client.test>", []string{"<alice@example.test>"}, note("at the end"))
	await(t, "a command", func() bool { _, err := os.Stat(home + "/begun"); return err == nil })
	runner := part(s, "runner", firstUID)
	if err := s.Terminate("deliver"); err != nil {
		t.Error(err)
	}
	if _, ok := proc.Read(runner); ok || runner == 0 {
		t.Errorf("runner %d is there", runner)
	}
	owned(t, firstUID, home+"/ended")
	if err := s.Launch("deliver"); err != nil {
		t.Fatal(err)
	}
	empty(t, s)
	if got := owned(t, firstUID, home+"/ended"); strings.Count(got, "\n") != 1 {
		t.Errorf("it ran %d times", strings.Count(got, "\n"))
	}
}

// D19, P4: runner, front and queued are killed while commands run. Each message is given to the command once or more, and is in the maildir once.
func TestD19_KilledWhileCommandsRun(t *testing.T) {
	const messages = 24
	s, _ := split(t, suite.Config{Aliases: "postmaster: alice\nteam: alice, bob\n", Settings: "worker_wait 5s\n"})
	home := func(u string) string { return filepath.Join(s.Dir, "home", u) }
	for i := range 2 {
		asUser(t, s, i, ".forward", `\`+s.Users[i]+`, "|cat > tmp.$$ && echo $$ >> begun && sleep 0.3 && mv tmp.$$ got.$$"`+"\n")
	}
	c := dial(t, s.Addr)
	to := []string{"<alice@example.test>", "<bob@example.test>", "<team@example.test>"}
	for i := range messages {
		c.send("<sender@client.test>", to[i%3:i%3+1], note(fmt.Sprint("message ", i)))
	}
	for round := range 6 {
		before, _ := os.ReadFile(home("alice") + "/begun")
		await(t, "a command", func() bool {
			now, _ := os.ReadFile(home("alice") + "/begun")
			return len(now) > len(before) || len(s.Queued()) == 0
		})
		switch round % 3 {
		case 0:
			if pid := part(s, "runner", firstUID); pid != 0 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		case 1:
			if pid := part(s, "front", frontUID); pid != 0 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			s.Terminate("deliver") // it ends by itself; what a supervisor does is ours
			if err := s.Launch("deliver"); err != nil {
				t.Fatal(err)
			}
		case 2:
			s.Kill("queued")
			if err := s.Launch("queued"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.AwaitEmpty(3 * limit); err != nil {
		t.Fatal(err)
	}
	for i, u := range s.Users {
		want := map[string]int{}
		for k := range messages {
			if k%3 == i || k%3 == 2 {
				want[fmt.Sprint("message ", k)] = 1
			}
		}
		count := func(all []string) map[string]int {
			n := map[string]int{}
			for _, text := range all {
				_, rest, _ := strings.Cut(text, "\nSubject: ")
				if !strings.HasSuffix(text, ".\n") {
					continue // the runner was killed before it had written all
				}
				subject, _, _ := strings.Cut(rest, "\n")
				n[subject]++
			}
			return n
		}
		if got := count(inbox(t, s, u, len(want))); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s has in his mailbox %v", u, got)
		}
		found, _ := filepath.Glob(home(u) + "/got.*")
		got := count(texts(t, found))
		for subject := range want {
			if got[subject] == 0 {
				t.Errorf("the command of %s did not get %s", u, subject)
			}
		}
		if len(got) != len(want) {
			t.Errorf("the command of %s got %v", u, got)
		}
	}
}

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vacation": func() { os.Exit(run(os.Args[1:])) }})
}

// Each option and each exit code of the page has a script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true, Setup: func(e *testscript.Env) error {
		for name, value := range map[string]string{"HOME": e.WorkDir, "USER": "bob", "LOGNAME": "bob", "RECIPIENT": "bob@b.example", "GORACE": "atexit_sleep_ms=0"} {
			e.Setenv(name, value)
		}
		return os.Chmod(filepath.Join(e.WorkDir, "sendmail"), 0o755)
	}, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		// exits CODE COMMAND...: the code, exactly.
		"exits": func(ts *testscript.TestScript, neg bool, args []string) {
			err := ts.Exec(args[1], args[2:]...)
			code := 0
			if exit, ok := err.(*exec.ExitError); ok {
				code = exit.ExitCode()
			} else if err != nil {
				ts.Fatalf("%v", err)
			}
			if fmt.Sprint(code) != args[0] {
				ts.Fatalf("exit code %d, not %s", code, args[0])
			}
		},
		// noted AGE ADDRESS: the list says that it was answered so long ago.
		"noted": func(ts *testscript.TestScript, neg bool, args []string) {
			age, err := time.ParseDuration(args[0])
			ts.Check(err)
			ts.Check(os.WriteFile(ts.MkAbs(".vacation.answered"), fmt.Appendf(nil, "%s %s\n", time.Now().Add(-age).UTC().Format(time.RFC3339), args[1]), 0o600))
		},
		"long": func(ts *testscript.TestScript, neg bool, args []string) {
			field := "X: " + strings.Repeat("x", 64<<10-len("X: ")) + "\n"
			n := map[string]int{"fits": 3, "not": 4}[args[0]]
			text := "To: bob@b.example\n" + strings.Repeat(field, n) + "Auto-Submitted: no\n\ntext\n"
			ts.Check(os.WriteFile(ts.MkAbs("long"), []byte(text), 0o600))
		},
	}})
}

// The examples of the page are run as they stand there.
func TestExamplesOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../man/vacation.1")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(page), ".Sh EXAMPLES")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "message"), []byte("Return-Path: <alice@a.example>\nFrom: alice@a.example\nTo: eric@b.example\nSubject: lunch\n\ntext\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "vacation")); err != nil {
		t.Fatal(err)
	}
	var got []string
	file, in := "", ""
	for lines := bufio.NewScanner(strings.NewReader(examples)); lines.Scan(); {
		line := strings.NewReplacer(`\(dq`, `"`, `\e`, `\`, `\&`, "").Replace(strings.TrimPrefix(lines.Text(), ".Dl "))
		switch {
		case strings.HasPrefix(line, ".Bd") && in != "":
			file = in
		case strings.HasPrefix(line, ".Ed"):
			file, in = "", ""
		case strings.HasPrefix(line, ".Pa ~/") && file == "":
			in = strings.Fields(line)[1][2:]
		case file != "":
			f, err := os.OpenFile(filepath.Join(dir, file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(f, line)
			f.Close()
		case strings.HasPrefix(line, "$ "):
			c := exec.Command("sh", "-c", line[2:])
			c.Dir = dir
			c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "USER=eric")
			var errs bytes.Buffer
			c.Stderr = &errs
			out, err := c.Output()
			if err != nil {
				t.Errorf("%s: %v %s", line, err, errs.String())
			}
			got = append(got, string(out))
		}
	}
	if len(got) != 4 || !strings.HasPrefix(got[1], "answer to alice@a.example\n\nFrom: \"Eric Example\" <eric@example.org>\nTo: alice@a.example\nSubject: away until July 22: lunch\n") ||
		!strings.Contains(got[1], "\n\nI have your message about \"lunch\"") || got[3] != "never @example.com\nnever carol@example.net\n" {
		t.Errorf("%q", got)
	}
	if b, err := os.ReadFile(dir + "/.forward"); err != nil || string(b) != "\\eric, \"|/usr/bin/vacation -a allman eric\"\n" {
		t.Errorf("%s, %v", b, err)
	}
}

// Nobody may read what is printed: the code is the same.
func TestNobodyReads(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	link := filepath.Join(t.TempDir(), "vacation")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(link, "-q")
	c.Stderr = w
	if err := c.Run(); c.ProcessState == nil || c.ProcessState.ExitCode() != exUsage {
		t.Errorf("%v", err)
	}
}

// Many at once answer a sender once.
func TestClaimsExcludeEachOther(t *testing.T) {
	path := t.TempDir() + "/answered"
	var wg sync.WaitGroup
	var mu sync.Mutex
	claims := map[string]int{}
	now := time.Now().UTC().Truncate(time.Second)
	for i := range 40 {
		who := fmt.Sprintf("u%d@a.example", i%5)
		wg.Go(func() {
			due, err := claim(path, who, now, "", false)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if due {
				claims[who]++
			}
		})
	}
	wg.Wait()
	for i := range 5 {
		if n := claims[fmt.Sprintf("u%d@a.example", i)]; n != 1 {
			t.Errorf("u%d is answered %d times", i, n)
		}
	}
	if d, err := read(path); err != nil || len(d.answered) != 5 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestListIsBounded(t *testing.T) {
	path := t.TempDir() + "/answered"
	now := time.Now().UTC().Truncate(time.Second)
	d := &database{never: []string{"@b.example"}}
	for i := range maxAnswered {
		d.answered = append(d.answered, answer{now.Add(-time.Hour), fmt.Sprintf("u%d@a.example", i)})
	}
	if err := os.WriteFile(path, d.text(), 0o600); err != nil {
		t.Fatal(err)
	}
	if due, err := claim(path, "new@a.example", now, "infinite", false); !due || err != nil {
		t.Fatal(due, err)
	}
	d, err := read(path)
	if err != nil || len(d.answered) != maxAnswered || d.answered[0].who != "u1@a.example" || d.answered[maxAnswered-1].who != "new@a.example" || len(d.never) != 1 {
		t.Errorf("%d, %v", len(d.answered), err)
	}
	for who, want := range map[string]bool{"u5@a.example": false, "u0@a.example": true, "x@B.EXAMPLE": false} {
		if due, err := claim(path, who, now, "", true); due != want || err != nil {
			t.Errorf("%s: %v, %v", who, due, err)
		}
	}
}

func TestIntervals(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"3": 3 * 24 * time.Hour, "1w": 7 * 24 * time.Hour, "12h": 12 * time.Hour, "90m": 90 * time.Minute, "2d": 48 * time.Hour, "0": time.Hour, "5s": time.Hour,
		"infinite": forever, "4294967295w": forever,
	} {
		if got, err := parseInterval(s); got != want || err != nil {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "-1", "1.5d", "1y", "x", "99999999999", "1dd"} {
		if _, err := parseInterval(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("interval 3d\n2026-11-29T10:00:00Z alice@a.example\nnever @c.example\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := dir + "/answered"
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := read(path)
		if err != nil {
			return
		}
		text := d.text()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if again, err := read(path); err != nil || !bytes.Equal(again.text(), text) {
			t.Errorf("%q, then %q, %v", b, text, err)
		}
	})
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"aliasctl": func() { os.Exit(run(os.Args[1:])) }})
}

// Each verb and each exit code of the page has a script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true, Setup: func(e *testscript.Env) error {
		e.Setenv("POSTAMT_CONF", filepath.Join(e.WorkDir, "postamt.conf"))
		aliases, err := os.ReadFile(filepath.Join(e.WorkDir, "aliases"))
		if err == nil { // list files have absolute paths
			err = os.WriteFile(filepath.Join(e.WorkDir, "aliases"), bytes.ReplaceAll(aliases, []byte("${WORK}"), []byte(e.WorkDir)), 0o600)
		}
		return errors.Join(err, os.Chmod(filepath.Join(e.WorkDir, "users"), 0o600), os.Chmod(filepath.Join(e.WorkDir, "guests"), 0o600))
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
	}})
}

// The examples of the page are run as they stand there.
func TestExamplesOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../man/aliasctl.8")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(page), ".Sh EXAMPLES")
	dir := t.TempDir()
	for name, text := range map[string]string{"postamt.conf": "hostname mx.example.org\nlocal_domains example.org\n",
		"aliases": "postmaster: alice\nstaff: bob, alice, all\nall: alice, carol@far.example\n", "aliases.new": "postmaster: alice\nstaff: bob, alice, all\nall: alice, carol@far.example\n", "users": "alice::60001:60001::/home/alice::\nbob::60002:60002::/home/bob::\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "aliasctl")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for lines := bufio.NewScanner(strings.NewReader(examples)); lines.Scan(); {
		command := strings.TrimPrefix(lines.Text(), ".Dl ")
		if !strings.HasPrefix(command, "$ ") && !strings.HasPrefix(command, "# ") {
			continue
		}
		command = strings.NewReplacer(`\(dq`, `"`, `\e`, `\`, "/etc/postamt", dir).Replace(command[2:])
		c := exec.Command("sh", "-c", command)
		c.Dir = dir
		c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "POSTAMT_CONF="+dir+"/postamt.conf")
		var errs bytes.Buffer
		c.Stderr = &errs
		out, err := c.Output()
		if err != nil {
			t.Errorf("%s: %v %s", command, err, errs.String())
		}
		if len(out) > 0 {
			got = append(got, strings.TrimSpace(strings.ReplaceAll(string(out), "\n", " ")))
		}
	}
	if want := []string{"alice bob", "postmaster staff all", "good"}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q, not %q", got, want)
	}
}

// A large table takes a pass, or two.
func TestManyEntries(t *testing.T) {
	const n = 200_000
	dir := t.TempDir()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "user%d@example.org box%d@far.example\n", i, i%(n/1000))
	}
	for name, text := range map[string][]byte{"postamt.conf": []byte("hostname mx.example.org\nlocal_domains example.org\nvirtual_aliases virtual\n"), "virtual": b.Bytes(),
		"aliases": []byte("postmaster: x@far.example\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "aliasctl")); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{"who box7@far.example": 1000, "list": n + 1, "check": 0, "expand user199999@example.org": 2} {
		begun := time.Now()
		c := exec.Command(filepath.Join(dir, "aliasctl"), strings.Fields(args)...)
		c.Env = append(os.Environ(), "POSTAMT_CONF="+dir+"/postamt.conf")
		out, err := c.Output()
		if n := bytes.Count(out, []byte("\n")); err != nil || n != want {
			t.Errorf("%s: %d lines, %v", args, n, err)
		}
		t.Logf("%s: %v", args, time.Since(begun).Round(time.Millisecond))
	}
}

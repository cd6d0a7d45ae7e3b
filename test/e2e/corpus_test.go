package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/suite"
)

// corpus returns real and broken messages by file name, with CR LF as their line ends.
func corpus(t *testing.T) map[string][]byte {
	t.Helper()
	const dir = "../../../shared/corpus"
	paths, _ := filepath.Glob(dir + "/*/*.eml")
	if len(paths) == 0 {
		t.Skip("no corpus in ../shared/corpus of the repository's directory")
	}
	messages := map[string][]byte{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		messages[strings.TrimPrefix(path, dir+"/")] = wire(b)
	}
	return messages
}

// wire gives text the line ends that SMTP has, one at the end included.
func wire(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	b = bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))
	if !bytes.HasSuffix(b, []byte("\n")) {
		b = append(b, '\n')
	}
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}

// fields divides a message into the fields of its header, as they stand, and what follows them: the empty line and
// the body, or the first line that is no field.
func fields(b []byte) (header [][]byte, rest []byte) {
	for len(b) > 0 {
		line, _, _ := bytes.Cut(b, []byte("\n"))
		if len(header) > 0 && len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			last := &header[len(header)-1]
			*last = append((*last)[:len(*last):len(*last)], b[:len(line)+1]...)
		} else {
			name, _, colon := bytes.Cut(line, []byte(":"))
			name = bytes.TrimRight(name, " \t")
			if !colon || len(name) == 0 || bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
				break
			}
			header = append(header, b[:len(line)+1])
		}
		b = b[len(line)+1:]
	}
	return header, b
}

// expected is what must lie below our fields when b was sent: all of b, but for Return-Path fields, and with an empty
// line before a message without any field.
func expected(b []byte) []byte {
	header, rest := fields(b)
	if len(header) == 0 && !bytes.HasPrefix(rest, []byte("\r\n")) {
		return append([]byte("\r\n"), rest...)
	}
	var all []byte
	for _, f := range header {
		if !bytes.HasPrefix(bytes.ToLower(f), []byte("return-path")) {
			all = append(all, f...)
		}
	}
	return append(all, rest...)
}

// below takes fields of these names, in this order, from the top of a message.
func below(t *testing.T, b []byte, names ...string) []byte {
	t.Helper()
	header, _ := fields(b)
	for i, name := range names {
		if i >= len(header) || !bytes.HasPrefix(header[i], []byte(name+": ")) {
			t.Fatalf("no field %s at place %d of\n%.400s", name, i, b)
		}
		b = b[len(header[i]):]
	}
	return b
}

// TestCorpusToMaildir is P10: what is stored is what was accepted, below the fields that we add.
func TestCorpusToMaildir(t *testing.T) {
	messages := corpus(t)
	s := start(t, suite.Config{})
	c := dial(t, s.Addr)
	ids := map[string]string{}
	for name, message := range messages {
		ids[name] = c.send("<sender@client.test> BODY=8BITMIME", []string{"<alice@example.test>"}, message)
	}
	if _, err := s.AwaitDelivered("alice", len(messages), limit); err != nil {
		t.Fatal(err)
	}
	empty(t, s)
	for name, message := range messages {
		found, _ := filepath.Glob(filepath.Join(s.Maildir("alice"), "new", "*Q"+ids[name]+"*"))
		if len(found) != 1 {
			t.Errorf("%s: %d files", name, len(found))
			continue
		}
		b, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		got := below(t, b, "Return-Path", "Delivered-To", "Received")
		if want := unix(expected(message)); !bytes.Equal(got, want) {
			t.Errorf("%s: stored %d bytes, want %d: %s", name, len(got), len(want), difference(got, want))
		}
	}
}

// TestCorpusToSink is the same on the way out.
func TestCorpusToSink(t *testing.T) {
	messages := corpus(t)
	k := sinkAt(t, "127.0.0.1")
	s := start(t, suite.Config{Routes: fmt.Sprintf("sink.test [127.0.0.1]:%s\n", k.port()), Settings: "relay_clients 127.0.0.1\n"})
	c := dial(t, s.Addr)
	users := map[string]string{}
	for name, message := range messages {
		user := strings.NewReplacer("/", "-", ".eml", "").Replace(name)
		users[user+"@sink.test"] = name
		c.send("<alice@example.test> BODY=8BITMIME", []string{"<" + user + "@sink.test>"}, message)
	}
	got := k.await(t, len(messages))
	empty(t, s)
	for _, m := range got {
		if len(m.to) != 1 || users[m.to[0]] == "" || m.from != "alice@example.test" {
			t.Errorf("a message from %s for %s", m.from, m.to)
			continue
		}
		name := users[m.to[0]]
		delete(users, m.to[0])
		b := below(t, m.data, "Received")
		if want := expected(messages[name]); !bytes.Equal(b, want) {
			t.Errorf("%s: sent on %d bytes, want %d: %s", name, len(b), len(want), difference(b, want))
		}
	}
}

// difference shows where two texts part.
func difference(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("at byte %d %.60q, want %.60q", i, got[i:], want[i:])
}

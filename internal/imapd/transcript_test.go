package imapd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"postamt/internal/maildir"
	"postamt/internal/transcript"
)

// TestTranscripts plays testdata/*.imap: both halves on one connection, and with a socket between them.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.imap")
	if err != nil || len(names) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, name := range names {
		for _, split := range []bool{false, true} {
			how := map[bool]string{false: "", true: "-split"}[split]
			t.Run(strings.TrimSuffix(filepath.Base(name), ".imap")+how, func(t *testing.T) {
				t.Parallel()
				s, err := transcript.Load(name)
				if err != nil {
					t.Fatal(err)
				}
				conf := testConfig()
				kind, messages, login := IMAP, 0, false
				var quota maildir.Quota
				var shared []string
				for _, h := range s.Head {
					switch h.Key {
					case "strict":
					case "listener":
						kind = h.Value
					case "tls":
						conf.TLS = certificate()
						if h.Value == "needed" {
							conf.AuthInClear = nil
						}
					case "state": // "authenticated": the sessions have logged in when the script begins
						login = h.Value == "authenticated"
					case "messages": // so many are in INBOX
						if messages, err = strconv.Atoi(h.Value); err != nil {
							t.Fatal(err)
						}
					case "quota": // bytes and messages
						if _, err := fmt.Sscan(h.Value, &quota.Bytes, &quota.Messages); err != nil {
							t.Fatal(err)
						}
					case "shared": // a folder of a shared maildir, and the lines of its rights file, with ";" between them
						shared = append(shared, h.Value)
					case "processes": // "one": with one for each user it is another story
						if split {
							t.Skip("of one process")
						}
					case "set":
						if err := set(conf, h.Value); err != nil {
							t.Fatal(err)
						}
					default:
						t.Fatalf("no setting %q", h.Key)
					}
				}
				if len(shared) > 0 {
					conf.Shared = share(t, shared...)
				}
				h := newLoopback(t, kind, conf)
				h.split, h.login, h.quota = split, login, quota
				h.fill(messages)
				if err := s.Run(h, transcript.Options{}); err != nil {
					t.Fatal(err)
				}
				h.end()
				if len(h.server.users.n) > 0 {
					t.Errorf("%v have sessions", h.server.users.n)
				}
			})
		}
	}
}

// share makes a directory of shared maildirs. Each line is a folder, "sales" or "sales/.2026", and its rights file, with ";" between the lines.
func share(t testing.TB, lines ...string) string {
	dir := t.TempDir()
	for _, line := range lines {
		folder, acl, _ := strings.Cut(line, " ")
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, folder, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if acl != "" {
			if err := os.WriteFile(filepath.Join(dir, folder, "dovecot-acl"), []byte(strings.ReplaceAll(acl, ";", "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// set changes what a line of the configuration would.
func set(c *Config, line string) (err error) {
	switch k, v, _ := strings.Cut(line, " "); k {
	case "imapd_error_limit":
		c.ErrorLimit, err = strconv.Atoi(v)
	case "imapd_message_limit":
		c.MessageLimit, err = strconv.ParseInt(v, 10, 64)
	case "imapd_command_limit":
		c.CommandLimit, err = strconv.Atoi(v)
	case "imapd_user_limit":
		c.UserLimit, err = strconv.Atoi(v)
	default:
		err = fmt.Errorf("no key %q", k)
	}
	return err
}

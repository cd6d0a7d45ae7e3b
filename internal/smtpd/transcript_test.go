package smtpd

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postamt/internal/login/logintest"
	"postamt/internal/transcript"
)

// TestTranscripts plays testdata/*.smtp to a session with a queue in memory. cmd/smtpd plays them to the program.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.smtp")
	if err != nil || len(names) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".smtp"), func(t *testing.T) {
			t.Parallel()
			s, err := transcript.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			conf := testConfig()
			kind := MX
			for _, h := range s.Head {
				switch h.Key {
				case "listener":
					kind = h.Value
				case "tls":
					if h.Value == "yes" {
						conf.TLS = certificate()
					}
				case "auth":
					if h.Value == "yes" {
						conf.Auth, conf.Senders = &logintest.Accounts{}, owners{}
					}
				case "set":
					if err := set(conf, h.Value); err != nil {
						t.Fatal(err)
					}
				default:
					t.Fatalf("no setting %q", h.Key)
				}
			}
			h := newLoopback(t, kind, conf)
			if err := s.Run(h, transcript.Options{}); err != nil {
				t.Fatal(err)
			}
			h.cancel()
			h.running.Wait()
			if h.queue.open != 0 {
				t.Errorf("%d messages are neither committed nor aborted", h.queue.open)
			}
		})
	}
}

// set changes what a line of postamt.conf(5) would.
func set(c *Config, line string) error {
	k, v, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(v)
	switch k {
	case "recipient_limit":
		c.RcptLimit = n
	case "mail_limit":
		c.MailLimit = n
	case "smtpd_hops":
		c.Hops = n
	case "smtpd_error_soft":
		c.ErrorSoft = n
	case "smtpd_error_hard":
		c.ErrorHard = n
	case "smtpd_junk_limit":
		c.JunkLimit = n
	case "smtpd_error_delay":
		c.ErrorDelay, err = time.ParseDuration(v)
	default:
		return fmt.Errorf("no key %q", k)
	}
	return err
}

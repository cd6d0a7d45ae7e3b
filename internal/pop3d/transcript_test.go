package pop3d

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/internal/transcript"
)

// TestTranscripts plays testdata/*.pop3 to sessions with maildrops in memory: both halves on one connection, and with a socket between them.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.pop3")
	if err != nil || len(names) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, name := range names {
		for _, split := range []bool{false, true} {
			how := map[bool]string{false: "", true: "-split"}[split]
			t.Run(strings.TrimSuffix(filepath.Base(name), ".pop3")+how, func(t *testing.T) {
				t.Parallel()
				s, err := transcript.Load(name)
				if err != nil {
					t.Fatal(err)
				}
				conf := testConfig()
				kind := POP3
				var messages []string
				for _, h := range s.Head {
					switch h.Key {
					case "listener":
						kind = h.Value
					case "tls":
						conf.TLS = certificate()
						if h.Value == "needed" {
							conf.AuthInClear = nil
						}
					case "apop":
						conf.Auth = &accounts{apop: true}
					case "message":
						m, err := strconv.Unquote(`"` + h.Value + `"`)
						if err != nil {
							t.Fatalf("%s: %q", name, h.Value)
						}
						messages = append(messages, m)
					case "set":
						if err := set(conf, h.Value); err != nil {
							t.Fatal(err)
						}
					default:
						t.Fatalf("no setting %q", h.Key)
					}
				}
				h := newLoopback(t, kind, conf, messages...)
				h.split = split
				if err := s.Run(h, transcript.Options{}); err != nil {
					t.Fatal(err)
				}
				h.cancel()
				h.l.Close()
				h.running.Wait()
				for user, b := range h.boxes {
					if b.locked || b.opened != b.closed {
						t.Errorf("%s: locked: %v, opened %d, closed %d", user, b.locked, b.opened, b.closed)
					}
				}
			})
		}
	}
}

// set changes what a line of the configuration would.
func set(c *Config, line string) (err error) {
	switch k, v, _ := strings.Cut(line, " "); k {
	case "pop3d_error_limit":
		c.ErrorLimit, err = strconv.Atoi(v)
	case "pop3d_expire":
		c.Expire, err = strconv.Atoi(v)
	case "pop3d_login_delay":
		c.LoginDelay, err = time.ParseDuration(v)
	default:
		err = fmt.Errorf("no key %q", k)
	}
	return err
}

func socketpair() (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var c [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		var e error
		if c[i], e = net.FileConn(f); e != nil {
			err = e
		}
		f.Close()
	}
	return c[0], c[1], err
}

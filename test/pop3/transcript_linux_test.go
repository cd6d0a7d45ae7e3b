package pop3

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postamt/internal/transcript"
)

// inMemory are the transcripts that only the accounts in memory can play.
var inMemory = []string{
	"A01-A02-auth", "P09-logins", // of some users nobody can tell; TestP09_Logins and TestAuthdDead have the like
	"apop",      // its digest is of RFC 1939's timestamp; TestClients has more of it
	"utf8-lang", // a third user
}

// twoWords is bob's password there, which ends in a space.
const twoWords = "$6$rounds=1000$saltsalt$CY1KYru5q3AaeI3hnxUTtjpdgVEllfpvd.iSfQc/C2l99ZRe/0uPLIwf8R.CrtIodoLRCS8rxJPc.3Z8WGkle."

// The transcripts of internal/pop3d, to the programs as they run: each session is of a front and a worker, and the messages are files.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("../../internal/pop3d/testdata/*.pop3")
	if err != nil || len(names) < 10 {
		t.Fatal(names, err)
	}
	for _, path := range names {
		name := strings.TrimSuffix(filepath.Base(path), ".pop3")
		if slices.Contains(inMemory, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := transcript.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			p := &played{}
			var conf, messages []string
			tls, apop := "", ""
			for _, h := range s.Head {
				switch h.Key {
				case "listener":
					p.secure = h.Value == "pop3s"
				case "tls":
					tls = h.Value
				case "apop":
					apop = " APOP"
				case "set":
					conf = append(conf, h.Value)
				case "message":
					m, err := strconv.Unquote(`"` + h.Value + `"`)
					if err != nil {
						t.Fatalf("%q", h.Value)
					}
					messages = append(messages, m)
				}
			}
			p.pop3Site = newSite(t, os.Geteuid() != 0, conf...)
			text, err := os.ReadFile(p.Configuration())
			p.Must(err)
			c := strings.NewReplacer("hostname mx.example.test", "hostname pop.example", " APOP SCRAM-SHA-256", apop).Replace(string(text))
			if tls == "" && !p.secure {
				c = strings.NewReplacer("tls_cert ", "#", "tls_key ", "#", " "+p.TLS+"=pop3s", "").Replace(c)
			} else if tls == "needed" {
				c += "auth_clear 192.0.2.1\n"
			}
			p.Must(os.WriteFile(p.Configuration(), []byte(c), 0o644))
			p.Must(os.WriteFile(p.Dir+"/etc/passwords", []byte("alice:{PLAIN}secret\nbob:"+twoWords+"\n"), 0o640))
			if tls == "" && !p.secure {
				p.Start("authd", "pop3d")
			} else {
				p.All()
			}
			p.Put(messages...)
			if err := s.Run(p, transcript.Options{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// played is what a transcript speaks to.
type played struct {
	*pop3Site
	secure bool
}

func (p *played) Dial(string) (net.Conn, error) {
	addr := p.Addr
	if p.secure {
		addr = p.TLS
	}
	return net.Dial("tcp", addr)
}

// Check is what the transcripts ask of a server, see internal/pop3d.
func (p *played) Check(title string, _ []string, _ transcript.Names) error {
	switch w := strings.Fields(title); {
	case w[0] == "left" && len(w) == 2:
		if l := p.Left(); strconv.Itoa(len(l)) != w[1] {
			return fmt.Errorf("%q are left", l)
		}
	case w[0] == "free":
		p.Await("the end of the session", func() bool {
			f, err := os.Open(p.Alice + "/postamt.pop3.lock")
			if errors.Is(err, os.ErrNotExist) {
				return true
			}
			p.Must(err)
			defer f.Close()
			return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
		})
	default:
		return fmt.Errorf("no check %q", title)
	}
	return nil
}

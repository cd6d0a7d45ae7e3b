// Package pop3 tests pop3d with the programs around it as they run, and with other people's clients and servers. Nothing imports it.
package pop3

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"

	"postamt/internal/durable"
	"postamt/internal/mailbox"
	"postamt/test/site"
)

// TestMain has more tests at a time than there are processors, unless it is told how many: most of them wait for programs that wait.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}

type pop3Site struct {
	*site.Site
	odd bool // alice's maildir is not to pass Check
}

func newSite(t testing.TB, whole bool, more ...string) *pop3Site {
	t.Helper()
	s := &pop3Site{Site: site.New(t, site.POP3, whole, more...)}
	t.Cleanup(s.check) // when the programs have ended
	return s
}

// check ends each test: what is in the files, the list of UIDs and the index agrees.
func (s *pop3Site) check() {
	if s.odd || s.T.Failed() || s.T.Skipped() {
		return
	}
	dir, err := durable.OpenDir(s.Alice)
	s.Must(err)
	defer dir.Close()
	box, err := mailbox.Open(dir, "", mailbox.Options{Report: func(err error) { s.T.Error(err) }})
	s.Must(err)
	defer box.Close()
	problems, err := box.Check()
	for _, p := range problems {
		s.T.Error(p)
	}
	s.Must(err)
}

func (s *pop3Site) All() *pop3Site {
	s.T.Helper()
	s.Site.All()
	return s
}

// client speaks POP3.
type client struct{ *site.Client }

// dial connects in clear, or with TLS.
func (s *pop3Site) dial(secure bool) *client {
	s.T.Helper()
	return &client{s.Dial(secure)}
}

func (s *pop3Site) login(secure bool) *client {
	s.T.Helper()
	c := s.dial(secure)
	c.Do("USER alice", "+OK")
	c.Do("PASS secret", "+OK")
	return c
}

// lines are those of a multi-line response.
func (c *client) lines(command string) []string {
	c.T.Helper()
	c.Do(command, "+OK")
	var all []string
	for {
		line, err := c.R.ReadString('\n')
		if err != nil {
			c.T.Fatalf("%s: %v", command, err)
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "." {
			return all
		}
		all = append(all, line)
	}
}

// ids are the second words of listings, by their numbers.
func ids(lines []string) []string {
	all := make([]string, len(lines))
	for i, l := range lines {
		n, id, _ := strings.Cut(l, " ")
		if n == strconv.Itoa(i+1) {
			all[i] = id
		}
	}
	return all
}

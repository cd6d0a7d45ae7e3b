package resolver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	confInterval = 5 * time.Second  // resolv.conf is looked at again at most this often
	confMax      = 64 << 10         // and read to this length
	maxServers   = 3                // MAXNS of resolv.conf(5)
	badFor       = 30 * time.Second // a server that did not answer is asked last for so long
)

// server is one recursive server. bad is the time, in nanoseconds since 1970, until which it is asked after the others.
type server struct {
	addr  netip.AddrPort
	trust bool
	bad   atomic.Int64
}

// settings are what resolv.conf or the Options say. Never changed after they were made, but for server.bad.
type settings struct {
	servers  []*server
	timeout  time.Duration
	attempts int
}

// conf keeps the settings that hold now.
type conf struct {
	opt   Options
	fixed bool // Options named servers: the file is not read

	mu      sync.Mutex
	cur     *settings
	checked time.Time
	mtime   time.Time
	size    int64
}

func (c *conf) init(o Options) error {
	c.opt = o
	if len(o.Servers) == 0 {
		return nil
	}
	c.fixed = true
	s := &settings{}
	for _, text := range o.Servers {
		a, err := parseServer(text)
		if err != nil {
			return fmt.Errorf("resolver: server %q: %w", text, err)
		}
		s.servers = append(s.servers, &server{addr: a, trust: o.TrustAD || a.Addr().IsLoopback()})
	}
	c.cur = s.withDefaults(o)
	return nil
}

func parseServer(s string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap, nil
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.AddrPort{}, errors.New("not an IP address, or address and port")
	}
	return netip.AddrPortFrom(a, 53), nil
}

func (s *settings) withDefaults(o Options) *settings {
	if o.Timeout > 0 {
		s.timeout = o.Timeout
	}
	if s.timeout <= 0 {
		s.timeout = 5 * time.Second
	}
	if o.Attempts > 0 {
		s.attempts = o.Attempts
	}
	if s.attempts <= 0 {
		s.attempts = 2
	}
	return s
}

// get gives the settings that hold, after a look at the file if the last one is long ago.
// A file that has gone or cannot be read leaves the last good settings in place. Without any, one that is there and cannot be read is
// an error: what it says is not what a missing one means.
func (c *conf) get(now time.Time) (*settings, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fixed || c.cur != nil && now.Sub(c.checked) < confInterval && !now.Before(c.checked) {
		return c.cur, nil
	}
	c.checked = now
	s, err := c.read()
	if err != nil && c.cur == nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		s = parseConf("", c.opt)
	}
	if s != nil {
		c.cur = s
	}
	return c.cur, nil
}

// read gives nil when the file is the one that is known already.
func (c *conf) read() (*settings, error) {
	f, err := os.Open(c.opt.Conf)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if c.cur != nil && fi.ModTime().Equal(c.mtime) && fi.Size() == c.size {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, confMax))
	if err != nil {
		return nil, err
	}
	c.mtime, c.size = fi.ModTime(), fi.Size()
	return parseConf(string(b), c.opt), nil
}

// parseConf reads what resolv.conf(5) says about servers, timeout, attempts and trust-ad. What it does not know it passes over, as the
// C library does: the file belongs to others.
func parseConf(text string, o Options) *settings {
	s := &settings{}
	trust := o.TrustAD
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(s.servers) < maxServers {
				s.servers = append(s.servers, &server{addr: netip.AddrPortFrom(a, 53)})
			}
		case "options":
			for _, opt := range f[1:] {
				name, val, _ := strings.Cut(opt, ":")
				n, err := strconv.Atoi(val)
				switch {
				case name == "trust-ad":
					trust = true
				case err != nil || n < 1:
				case name == "timeout":
					s.timeout = time.Duration(min(n, 30)) * time.Second
				case name == "attempts":
					s.attempts = min(n, 5)
				}
			}
		}
	}
	if len(s.servers) == 0 {
		s.servers = []*server{{addr: netip.MustParseAddrPort("127.0.0.1:53")}}
	}
	for _, srv := range s.servers {
		srv.trust = trust || srv.addr.Addr().IsLoopback()
	}
	return s.withDefaults(o)
}

// order is the servers as they are to be asked now: as configured, those that lately did not answer last.
func (s *settings) order(now time.Time) []*server {
	if len(s.servers) == 1 {
		return s.servers
	}
	out := make([]*server, 0, len(s.servers))
	for _, good := range []bool{true, false} {
		for _, srv := range s.servers {
			if (srv.bad.Load() <= now.UnixNano()) == good {
				out = append(out, srv)
			}
		}
	}
	return out
}

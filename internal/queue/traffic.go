package queue

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Traffic is what queued has counted since it was started: the file traffic, for people who watch.
//
//	postamt-traffic 1
//	started 1764000000.123456
//	at 1764000100.000000
//	in 4711
//	active 3 waiting 120
//	domain example.net out 12 deferred 3 failed 1
//
// It is replaced as a whole and never synced: what it says ends with queued.
type Traffic struct {
	Started, At     time.Time
	In              int64 // messages
	Active, Waiting int
	Domains         []DomainTraffic
}

// DomainTraffic counts recipients of one domain, at each attempt.
type DomainTraffic struct {
	Domain                string
	Out, Deferred, Failed int64
}

const (
	trafficMagic = "postamt-traffic 1"
	maxTraffic   = 1 << 20
)

// WriteTraffic puts t in place of what is there.
func (q *Queue) WriteTraffic(t *Traffic) error {
	b := []byte(trafficMagic + "\nstarted ")
	b = append(appendTime(b, t.Started.UnixMicro()), "\nat "...)
	b = appendTime(b, t.At.UnixMicro())
	b = fmt.Appendf(b, "\nin %d\nactive %d waiting %d\n", t.In, t.Active, t.Waiting)
	for _, d := range t.Domains {
		b = appendXtext(append(b, "domain "...), d.Domain)
		b = fmt.Appendf(b, " out %d deferred %d failed %d\n", d.Out, d.Deferred, d.Failed)
	}
	f, err := q.open(".traffic", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err == nil {
		err = q.ops.Write(f, b)
		f.Close()
	}
	if err == nil {
		err = q.ops.Rename(q.dir, ".traffic", q.dir, "traffic")
	}
	if err != nil {
		return fmt.Errorf("queue: traffic: %w", err)
	}
	return nil
}

// ReadTraffic reads it. ErrNotExist: nothing has been counted. What it does not know it passes over.
func (q *Queue) ReadTraffic() (*Traffic, error) {
	f, err := q.open("traffic", unix.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("queue: traffic: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTraffic))
	if err == nil && !strings.HasPrefix(string(b), trafficMagic+"\n") {
		err = errors.New("not as it is known here")
	}
	if err != nil {
		return nil, fmt.Errorf("queue: traffic: %w", err)
	}
	t := &Traffic{}
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		number := func(i int) int64 {
			if i >= len(w) {
				return 0
			}
			n, _ := strconv.ParseInt(w[i], 10, 64)
			return n
		}
		switch {
		case len(w) < 2:
		case w[0] == "started":
			t.Started, _ = parseTime(w[1])
		case w[0] == "at":
			t.At, _ = parseTime(w[1])
		case w[0] == "in":
			t.In = number(1)
		case w[0] == "active":
			t.Active, t.Waiting = int(number(1)), int(number(3))
		case w[0] == "domain":
			if name, ok := parseXtext(w[1]); ok {
				t.Domains = append(t.Domains, DomainTraffic{name, number(3), number(5), number(7)})
			}
		}
	}
	return t, nil
}

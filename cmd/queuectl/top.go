package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/queue"
)

// history is how many intervals a graph shows.
const history = 40

// rates are what there was in each of the last intervals, the newest last.
type rates struct {
	domain        string
	out, deferred [history]int64
	failed        int64 // in the newest
	sum           int64
}

// watch turns what queued has counted until now into what there was in each interval.
type watch struct {
	last    *queue.Traffic
	in      [history]int64
	domains map[string]*rates
}

// next takes another reading. Of a queued that was started anew all is new.
func (w *watch) next(t *queue.Traffic) {
	before := make(map[string]queue.DomainTraffic)
	in := int64(0)
	if w.last != nil && w.last.Started.Equal(t.Started) {
		in = w.last.In
		for _, d := range w.last.Domains {
			before[d.Domain] = d
		}
	}
	first := w.last == nil
	w.last = t
	shift(&w.in)
	for _, r := range w.domains {
		shift(&r.out)
		shift(&r.deferred)
		r.failed = 0
	}
	if first {
		return // of what came before nobody knows when
	}
	if w.domains == nil {
		w.domains = make(map[string]*rates)
	}
	newest := history - 1
	w.in[newest] = t.In - in
	for _, d := range t.Domains {
		b := before[d.Domain]
		if d.Out < b.Out || d.Deferred < b.Deferred || d.Failed < b.Failed {
			b = queue.DomainTraffic{} // it was forgotten meanwhile
		}
		if d == (queue.DomainTraffic{Domain: d.Domain, Out: b.Out, Deferred: b.Deferred, Failed: b.Failed}) {
			continue
		}
		r := w.domains[d.Domain]
		if r == nil {
			r = &rates{domain: d.Domain}
			w.domains[d.Domain] = r
		}
		r.out[newest], r.deferred[newest], r.failed = d.Out-b.Out, d.Deferred-b.Deferred, d.Failed-b.Failed
	}
	for name, r := range w.domains {
		r.sum = total(r.out[:]) + total(r.deferred[:]) + r.failed
		if r.sum == 0 {
			delete(w.domains, name)
		}
	}
}

func shift(a *[history]int64) {
	copy(a[:], a[1:])
	a[history-1] = 0
}

func total(a []int64) (n int64) {
	for _, v := range a {
		n += v
	}
	return n
}

// busiest are the domains, those with the most traffic first.
func (w *watch) busiest() []*rates {
	var list []*rates
	for _, r := range w.domains {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *rates) int { return cmp.Or(cmp.Compare(b.sum, a.sum), cmp.Compare(a.domain, b.domain)) })
	return list
}

// appendLines is the form for pipes: the whole, and each domain with traffic in this interval.
func (w *watch) appendLines(b []byte, now time.Time) []byte {
	newest := history - 1
	at := string(appendTime(nil, now))
	var out, deferred, failed int64
	var lines []byte
	for _, r := range w.busiest() {
		if r.out[newest]+r.deferred[newest]+r.failed == 0 {
			continue
		}
		out, deferred, failed = out+r.out[newest], deferred+r.deferred[newest], failed+r.failed
		lines = fmt.Appendf(lines, "%s domain=%s out=%d deferred=%d failed=%d\n", at, appendText(nil, r.domain), r.out[newest], r.deferred[newest], r.failed)
	}
	b = fmt.Appendf(b, "%s in=%d out=%d deferred=%d failed=%d active=%d waiting=%d\n", at, w.in[newest], out, deferred, failed, w.last.Active, w.last.Waiting)
	return append(b, lines...)
}

// appendScreen is the form for a terminal of so many rows and columns.
func (w *watch) appendScreen(b []byte, now time.Time, every time.Duration, rows, columns int, blocks []rune) []byte {
	var out, deferred [history]int64
	list := w.busiest()
	for _, r := range list {
		for i := range history {
			out[i] += r.out[i]
			deferred[i] += r.deferred[i]
		}
	}
	span := min(history, max(8, (columns-40)/2))
	line := func(format string, args ...any) {
		text := []rune(fmt.Sprintf(format, args...))
		b = append(b, string(text[:min(len(text), columns)])...)
		b = append(b, "\x1b[K\r\n"...)
	}
	rate := func(n int64) string { return fmt.Sprintf("%.4g/s", float64(n)/every.Seconds()) }
	b = append(b, "\x1b[H"...)
	line("%s   active %d, waiting %d, each column %v", appendTime(nil, now), w.last.Active, w.last.Waiting, every)
	line("in        %10s  %s", rate(w.in[history-1]), graph(w.in[history-span:], blocks))
	line("delivered %10s  %s", rate(out[history-1]), graph(out[history-span:], blocks))
	line("deferred  %10s  %s", rate(deferred[history-1]), graph(deferred[history-span:], blocks))
	line("")
	line("%-24s %10s %-*s %s", "domain", "delivered", span+1, "", "deferred")
	for _, r := range list[:min(len(list), max(0, rows-8))] {
		line("%-24.24s %10s %s  %s", appendText(nil, r.domain), rate(r.out[history-1]), graph(r.out[history-span:], blocks), graph(r.deferred[history-span:], blocks))
	}
	return append(b, "\x1b[J"...)
}

// graph is a column for each value, as high as it is of the greatest.
func graph(values []int64, blocks []rune) string {
	most := slices.Max(values)
	var b strings.Builder
	for _, v := range values {
		i := 0
		if v > 0 {
			i = 1 + int(v*int64(len(blocks)-2)/most)
		}
		b.WriteRune(blocks[i])
	}
	return b.String()
}

// blocksOf are the heights of columns that the terminal has letters for.
func blocksOf(getenv func(string) string) []rune {
	locale := strings.ToUpper(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	if strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8") {
		return []rune(" ▁▂▃▄▅▆▇█")
	}
	return []rune(" .:-=+*#")
}

// top shows it until somebody interrupts.
func top(c *command) error {
	flags := c.flags()
	seconds := flags.Float64("d", 2, "")
	count := flags.Int("n", 0, "")
	if err := c.parse(flags, 0, 0); err != nil || !(*seconds >= 1 && *seconds <= 86400) || *count < 0 {
		return errUsage
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	every := time.Duration(*seconds * float64(time.Second))
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	terminal := err == nil
	if terminal {
		c.out.WriteString("\x1b[2J")
	}
	blocks := blocksOf(os.Getenv)
	var w watch
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		t, err := q.ReadTraffic()
		if errors.Is(err, queue.ErrNotExist) {
			return exit{exUnavailable, errors.New("queued has not counted anything yet")}
		}
		if err != nil {
			return err
		}
		w.next(t)
		now := time.Now()
		switch {
		case terminal:
			if s, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ); err == nil {
				size = s
			}
			rows, columns := cmp.Or(int(size.Row), 24), cmp.Or(int(size.Col), 80)
			c.out.Write(w.appendScreen(nil, now, every, rows, columns, blocks))
		case n > 0:
			c.out.Write(w.appendLines(nil, now))
		}
		if err := c.out.Flush(); err != nil || n > 0 && n == *count {
			return err
		}
		<-tick.C
	}
}

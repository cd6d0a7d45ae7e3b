package soak

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"postamt/test/proc"
)

// process is what one process has. It is known by its program, its role and, if it is a worker, its uid.
type process struct {
	pid, fds, threads int
	links             int // that others have asked for
	rss, pss          int64
	open              []string // what the descriptors are
}

// figures are all that is counted.
type figures struct {
	processes map[string]process // fds without the ends of links
	links     int
	files     map[string]int // by where they are
	index     int64          // bytes of lists and indexes beside mailboxes
	graves    int            // tombstones of young messages: maildir(5)
}

// look counts everything that there is now.
func (s *site) look() (figures, error) {
	f := figures{processes: map[string]process{}, files: map[string]int{}}
	named, err := s.sockets()
	if err != nil {
		return f, err
	}
	from := map[string]int{} // links, by the program that asked for them
	for _, program := range s.programs {
		for _, pid := range proc.Tree(s.Pid(program)) {
			name, p, err := examine(program, pid, func(socket string) bool {
				who := named[socket]
				if who != "" {
					from[who]++
				}
				return who != ""
			})
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
				continue // it ended
			}
			if err != nil {
				return f, err
			}
			if _, double := f.processes[name]; double {
				name += " (one more)" // the one goes, the other comes
			}
			f.processes[name] = p
		}
	}
	// Which process has the other end is not said, but that somebody has it.
	var together process
	for name, p := range f.processes {
		switch {
		case name == "queued":
			p.fds -= from["queued"]
			f.processes[name] = p
		case name == "smtpd" || strings.HasPrefix(name, "pop3d") && !strings.Contains(name, "worker"):
			together.fds += p.fds
			together.open = append(append(together.open, name+":"), p.open...)
			p.fds = 0
			f.processes[name] = p
		}
	}
	together.fds -= from["many"]
	f.processes["smtpd, pop3d"] = together
	f.links = from["queued"] + from["many"]
	err = filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(s.Dir, path)
		part := strings.Split(rel, "/")
		switch {
		case part[0] == "home" && part[len(part)-2] == "tmp" && (strings.HasSuffix(rel, ".gone") || strings.HasSuffix(rel, ".gones")):
			f.graves++
			return nil
		case part[0] == "home":
			if info, err := d.Info(); err == nil && part[len(part)-2] == "Maildir" {
				f.index += info.Size()
			}
			// One line for all mailboxes, and for what has a name of its own each time.
			part[1] = "*"
			n := len(part)
			if strings.HasPrefix(part[n-1], "dovecot-uidvalidity.") {
				part[n-1] = "dovecot-uidvalidity.*"
			}
			if part[n-2] == "new" || part[n-2] == "cur" || part[n-2] == "tmp" {
				part[n-1] = "*"
			}
		case part[0] == "queue" && len(part) > 2:
			part = []string{"queue", part[1], "*"}
		case part[0] == "state" && len(part) > 2:
			part[2] = "*"
		case part[0] == "log":
			return nil // our own
		}
		f.files[strings.Join(part, "/")]++
		return nil
	})
	return f, err
}

// sockets are those that programs have accepted from others of the suite, as /proc/PID/fd names them, each with who can have asked for it. Such links are kept for
// when they are needed again, up to a minute and, of keyd's, eight for each program: how many there are is chance.
func (s *site) sockets() (map[string]string, error) {
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil, err
	}
	who := map[string]string{"deliver.sock": "queued", "auth": "many", "auth-users": "many", "keyd": "many"}
	named := map[string]string{}
	for line := range strings.Lines(string(b)) {
		// Num RefCount Protocol Flags Type St Inode Path; St is 03 when it is connected.
		f := strings.Fields(line)
		if len(f) == 8 && f[5] == "03" && filepath.Dir(f[7]) == filepath.Join(s.Dir, "run") {
			named["socket:["+f[6]+"]"] = who[filepath.Base(f[7])]
		}
	}
	return named, nil
}

// examine counts what a process has, but not the descriptors of links.
func examine(program string, pid int, link func(string) bool) (string, process, error) {
	p := process{pid: pid}
	dir := fmt.Sprintf("/proc/%d", pid)
	title, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return "", p, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return "", p, err
	}
	field := func(name string) int64 {
		_, rest, _ := strings.Cut("\n"+string(status), "\n"+name+":")
		f := strings.Fields(rest)
		if len(f) == 0 {
			return 0
		}
		n, _ := strconv.ParseInt(f[0], 10, 64)
		return n
	}
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return "", p, err
	}
	for _, e := range fds {
		if to, err := os.Readlink(dir + "/fd/" + e.Name()); err == nil && link(to) {
			p.links++
		} else {
			p.fds++
			p.open = append(p.open, e.Name()+" "+to)
		}
	}
	p.threads, p.rss = int(field("Threads")), field("VmRSS")<<10
	if p.pss, err = proc.PSS(pid); err != nil {
		return "", p, err
	}
	name := program
	if _, role, ok := strings.Cut(strings.Trim(string(title), "\x00"), ": "); ok {
		if name += " " + role; role == "worker" {
			name += fmt.Sprint(" ", field("Uid"))
		}
	} else if program == "deliver" || program == "pop3d" {
		name += " monitor"
	}
	return name, p, nil
}

// calm waits for want, and as long as a front keeps a connection to a worker that nobody needs, and then until nothing changes for a moment but links and memory.
func (s *site) calm(limit time.Duration, want func(figures) bool) (figures, error) {
	const kept, still = 5500 * time.Millisecond, time.Second
	var last figures
	begun := time.Now()
	for since := begun; ; time.Sleep(200 * time.Millisecond) {
		now, err := s.look()
		if err != nil {
			return now, err
		}
		if !now.same(last) {
			since = time.Now()
		}
		last = now
		if time.Since(begun) >= kept && time.Since(since) >= still && want(now) || time.Since(begun) > limit {
			return now, nil
		}
	}
}

func (f figures) same(g figures) bool {
	return maps.Equal(f.files, g.files) && f.graves == g.graves &&
		maps.EqualFunc(f.processes, g.processes, func(p, q process) bool { return p.pid == q.pid && p.fds == q.fds })
}

// workers says how many processes are workers.
func (f figures) workers() int {
	n := 0
	for name := range f.processes {
		if strings.Contains(name, " worker ") {
			n++
		}
	}
	return n
}

// What more at the end is no leak: threads, which Go keeps, as many as the disk can hold up at once: 32 deliveries (deliver_connections); in queued
// 8 loaders, 8 filers and the syncs of 16 directories (a goroutine that hangs is seen in the end); memory, whose heap has grown to what the
// busiest moment needed; the lists of mailboxes, which are written anew when a third and a hundred of the lines are of messages that are gone.
const (
	threadsMore = 32
	memoryTimes = 1.3
	memoryMore  = 12 << 20
	indexMore   = 64 << 10 // a mailbox
)

// compare returns a table, and what is not as it was.
func (base figures) compare(end figures, mailboxes int) (table string, faults []string) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\t\tdescriptors\t\tthreads\tRSS, MiB\t\tPSS, MiB\t\n")
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	names := slices.Collect(maps.Keys(base.processes))
	for name := range end.processes {
		if _, ok := base.processes[name]; !ok {
			names = append(names, name)
			fault("%s was not there", name)
		}
	}
	slices.Sort(names)
	number := func(p, q any) string { return fmt.Sprintf("%v -> %v", p, q) }
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	for _, name := range names {
		p, q := base.processes[name], end.processes[name]
		fds, rest := number(p.fds, q.fds), fmt.Sprintf("%d -> %d\t%.1f -> %.1f\t\t%.1f -> %.1f", p.threads, q.threads, mib(p.rss), mib(q.rss), mib(p.pss), mib(q.pss))
		if p.fds+q.fds == 0 {
			fds = "" // counted together
		}
		if p.pid+q.pid == 0 {
			rest = "\t\t\t"
		}
		fmt.Fprintf(w, "%s\t\t%s\t\t%s\t\n", name, fds, rest)
		switch {
		case q.pid == 0 && p.pid != 0:
			fault("%s has ended", name)
		case q.pid != p.pid && !strings.Contains(name, " worker "):
			fault("%s is another process", name)
		}
		// Another process, of a worker that had left, may have seen fewer of its users' maildirs.
		if q.fds > p.fds || q.fds < p.fds && q.pid == p.pid {
			fault("%s has %d descriptors, had %d:\n%q\nhad\n%q", name, q.fds, p.fds, q.open, p.open)
		}
		if q.threads > p.threads+threadsMore {
			fault("%s has %d threads, had %d", name, q.threads, p.threads)
		}
		if float64(q.rss) > float64(p.rss)*memoryTimes+memoryMore {
			fault("%s has %.1f MiB resident, had %.1f", name, mib(q.rss), mib(p.rss))
		}
	}
	places := slices.Sorted(maps.Keys(base.files))
	for place := range end.files {
		if base.files[place] == 0 {
			places = append(places, place)
		}
	}
	for _, place := range places {
		fmt.Fprintf(w, "%s\t\t%d -> %d\t\t\t\t\t\t\n", place, base.files[place], end.files[place])
		if place == "state/usage/*" && end.files[place] <= mailboxes {
			continue // one for each login that has sent
		}
		if base.files[place] != end.files[place] {
			fault("%s: %d files, there were %d", place, end.files[place], base.files[place])
		}
	}
	fmt.Fprintf(w, "links between programs\t\t%d -> %d\t\t\t\t\t\t\n", base.links, end.links)
	fmt.Fprintf(w, "bytes of lists and indexes\t\t%d -> %d\t\t\t\t\t\t\ntombstones\t\t%d -> %d\t\t\t\t\t\t\n", base.index, end.index, base.graves, end.graves)
	if end.index > base.index+int64(mailboxes)*indexMore {
		fault("lists and indexes have %d bytes, had %d", end.index, base.index)
	}
	w.Flush()
	return b.String(), faults
}

package crash

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/remote/smtptest"
	"postamt/test/suite"
)

// A cutDisk is a file system whose power is cut.
type cutDisk struct {
	name, kind string
	size       int64
	messages   int      // of a recording
	fsck       bool     // it has no journal: what boots from it repairs it first
	options    []string // of mkfs
}

var cutDisks = []cutDisk{
	{"ext4", "ext4", 96 << 20, 150, false, []string{"-b", "4096", "-E", "lazy_itable_init=0"}},
	{"xfs", "xfs", 320 << 20, 150, false, nil}, // mkfs.xfs makes no smaller one
	// Fewer messages: when a directory grows beyond one block, ext4 moves the names in it, and without a journal a cut in the
	// middle loses names that were synced long ago. Nothing that a program can do prevents that.
	{"ext4 without a journal", "ext4", 96 << 20, 60, true, []string{"-b", "4096", "-E", "lazy_itable_init=0", "-O", "^has_journal"}},
	{"btrfs", "btrfs", 256 << 20, 150, false, nil},
}

// A recording is a run of the whole suite on two disks, of which every write is known. Queue and maildirs are on two, so that
// no journal that both share keeps an order that we do not.
type recording struct {
	disk  cutDisk
	s     *suite.System
	l     *load
	sink  *smtptest.Server
	dir   string
	disks [2]*platter
	mount [2]string

	log      []record
	base     int            // records of the making of the file systems; cuts come after them
	acked    map[string]int // id of a message: its 250 was read before the record with this number
	taken    []copyTaken    // by the sink, in the order of the log
	seen     int            // messages that the sink has got so far, over all runs
	most     time.Duration  // oldest copy that was sent again
	again    int
	images   int
	tolerant bool // files in corrupt are counted, and no error
	aside    int  // these
}

// copyTaken is a message that the sink has got.
type copyTaken struct {
	at int // number of the record
	m  smtptest.Message
}

// cutUsers are so many that there is a list of more than the 16 recipients whose copies deliver syncs together.
func cutUsers() []string {
	all := slices.Clone(users)
	for i := range 20 {
		all = append(all, fmt.Sprintf("u%02d", i))
	}
	return all
}

// recordRun has messages taken and delivered by the programs in the directory bin.
func recordRun(t *testing.T, d cutDisk, bin string, seed uint64) *recording {
	needFUSE(t)
	all := cutUsers()
	staff := all[len(users):]
	rec := &recording{disk: d, dir: scratchDir(t), acked: map[string]int{}, tolerant: d.fsck}
	for i := range rec.disks {
		image := filepath.Join(rec.dir, strconv.Itoa(i)+".img")
		rec.disks[i] = &platter{disk: byte(i), stable: image + ".stable"}
		makeImage(t, image, d.kind, d.size, d.options...)
		tool(t, "cp", "--sparse=auto", image, rec.disks[i].stable)
	}
	b := startBlocks(t, rec.dir)
	// What another host has got is remembered too.
	rec.sink = smtptest.New(t, smtptest.Config{Reply: func(conn int, verb, _ string) string {
		if verb == "." {
			b.mark("taken " + strconv.Itoa(conn)) // fails when the recording is over, as it should
		}
		return ""
	}})
	// An address of its own, where no connection of another program can take the port between two of many starts.
	addr := fmt.Sprintf("127.%d.%d.25:2525", 1+os.Getpid()>>8&0x7f, os.Getpid()&0xff)
	s, err := suite.New(suite.Config{Users: all, Aliases: aliases + "staff: " + strings.Join(staff, ", ") + "\n", Bin: bin,
		Settings: quick + "smtpd_listen " + addr + "=mx\n",
		Routes:   fmt.Sprintf("remote.test [127.0.0.1]:%d\n", rec.sink.Addr.Port())})
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = addr
	rec.s = s
	t.Cleanup(s.Remove)
	rec.mount = [2]string{s.Queue, filepath.Join(s.Dir, "home")}
	var mounted []*disk
	for i := range rec.disks {
		m := &disk{kind: d.kind, image: filepath.Join(rec.dir, "fuse", strconv.Itoa(i)+".img"), mount: rec.mount[i]}
		m.attach(t)
		t.Cleanup(func() { m.detach(t) })
		mounted = append(mounted, m)
	}
	t.Cleanup(func() {
		for _, name := range suite.Programs {
			s.Kill(name)
			if log := s.Log(name); t.Failed() {
				t.Logf("log of %s:\n%s", name, log[max(0, len(log)-4<<10):])
			}
		}
	})
	homes(t, s)
	for _, m := range mounted {
		syncDisk(t, m.mount)
	}
	mark := func(text string) {
		if err := b.mark(text); err != nil {
			t.Error(err)
		}
	}
	mark("base")
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	rec.l = &load{t: t, addr: s.Addr, from: "sender@example.test", seed: seed, most: d.messages,
		targets: append(targets(), target{rcpts: []string{"staff@example.test"}, mailboxes: staff}),
		told:    func(m *sent) { mark("told " + m.id()) }}
	rec.l.start(4)
	rec.l.wait(false)
	if err := s.AwaitEmpty(patience); err != nil {
		t.Error(err)
	}
	mark("end")
	for _, name := range suite.Programs {
		s.Kill(name)
	}
	for _, m := range mounted {
		m.detach(t)
	}
	b.stop(t)
	rec.read(t)
	return rec
}

// syncDisk puts all that was done so far out of reach of the cut.
func syncDisk(t testing.TB, mount string) {
	t.Helper()
	dir, err := os.Open(mount)
	if err == nil {
		err = unix.Syncfs(int(dir.Fd()))
		dir.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// read makes sense of the log.
func (rec *recording) read(t *testing.T) {
	path := filepath.Join(rec.dir, "log")
	log := readBlockLog(t, path)
	os.Remove(path)
	byConn := map[int][]smtptest.Message{}
	for _, m := range rec.sink.Messages() {
		byConn[m.Conn] = append(byConn[m.Conn], m)
		rec.seen++
	}
	writes, flushes := 0, 0
	for i, r := range log {
		word, rest, _ := strings.Cut(string(r.data[:min(len(r.data), 64)]), " ")
		switch {
		case r.Kind == recordWrite:
			writes++
		case r.Kind == recordFlush:
			flushes++
		case word == "base":
			rec.base = i
			for _, p := range rec.disks {
				p.apply(t, p.stable, log[:i], loseNothing, nil)
				p.applied = i
			}
		case word == "told":
			rec.acked[rest] = i
		case word == "taken":
			conn, _ := strconv.Atoi(rest)
			rec.taken = append(rec.taken, copyTaken{i, byConn[conn][0]})
			byConn[conn] = byConn[conn][1:]
		case word == "end":
			rec.log = log[:i]
		}
	}
	span := time.Duration(rec.log[len(rec.log)-1].Time - rec.log[rec.base].Time)
	t.Logf("%s: %d messages acknowledged and %d taken by the sink in %v; %d writes, %d flushes", rec.disk.name,
		len(rec.acked), len(rec.taken), span.Round(time.Millisecond), writes, flushes)
	if len(rec.acked) == 0 || len(rec.taken) == 0 || rec.base == 0 {
		t.Fatal("nothing was recorded")
	}
}

// told returns the numbers of the records before which somebody had read a 250, in order.
func (rec *recording) told() []int {
	return slices.Sorted(maps.Values(rec.acked))
}

// moments chooses n places for cuts, in order: some of them while the programs start or before anybody was told anything,
// half of the others just after a client has read its 250.
func (rec *recording) moments(n int, r *rand.Rand) []int {
	told := rec.told()
	var all []int
	for i := range n {
		switch {
		case i%6 == 0:
			all = append(all, rec.base+r.IntN(told[0]-rec.base))
		case i%2 == 0:
			all = append(all, told[0]+r.IntN(len(rec.log)-told[0]))
		default:
			all = append(all, told[r.IntN(len(told))]+1)
		}
	}
	slices.Sort(all)
	return all
}

// cut takes the power away after the first n records, starts the suite on what is left and checks the promises.
func (rec *recording) cut(t testing.TB, n int, r *rand.Rand) {
	s := rec.s
	// F21: sometimes only one of the two disks loses what was not flushed.
	how := [2]loss{loseWrites, loseWrites}
	if r.IntN(2) == 0 {
		how = [2]loss{loseSectors, loseSectors}
	}
	if one := r.IntN(4); one < 2 {
		how[one] = loseNothing
	}
	pending := [2]int{}
	for i, p := range rec.disks {
		// A new file each time: the loop device of the last one may live a moment longer than its mount, and mount takes a device
		// that has the file already, with what it remembers of it.
		rec.images++
		image := filepath.Join(rec.dir, fmt.Sprintf("cut-%d", rec.images))
		defer os.Remove(image)
		pending[i] = p.cut(t, rec.log, n, how[i], r, image)
		if rec.disk.fsck {
			// It exits 1 when it has repaired something.
			if out, err := exec.Command("/sbin/e2fsck", "-fy", image).CombinedOutput(); err != nil && err.(*exec.ExitError).ExitCode() > 1 {
				t.Fatalf("e2fsck: %v\n%s", err, out)
			}
		}
		d := &disk{kind: rec.disk.kind, image: image, mount: rec.mount[i]}
		d.attach(t)
		defer d.detach(t)
	}
	defer func() {
		for _, name := range suite.Programs {
			s.Kill(name)
		}
	}()
	l := &load{t: t, addr: s.Addr, from: rec.l.from, seed: rec.l.seed, targets: rec.l.targets}
	acknowledgements := 0
	for _, m := range rec.l.sent {
		if at, ok := rec.acked[m.id()]; ok && at < n {
			acknowledgements++
		} else {
			m.fate = unknown
		}
		l.sent = append(l.sent, m)
	}
	moment := time.Unix(0, rec.log[n-1].Time)
	t.Logf("cut after record %d of %d: %d acknowledged, the queue %v of %d, the maildirs %v of %d; %d files in the queue", n, len(rec.log),
		acknowledgements, how[0], pending[0], how[1], pending[1], len(s.Queued()))

	cut := time.Now()
	// Deliver first: an attempt that finds it missing is put off for seconds, of which there are hundreds.
	if err := errors.Join(s.Launch("deliver"), s.Run()); err != nil {
		t.Errorf("the suite does not start: %v", err)
		return
	}
	// The queue still takes mail: one message to everybody (Q20: whatever directory the cut has prevented).
	l.next.Store(int64(len(l.sent)))
	l.most = len(l.sent) + 1
	l.start(1)
	l.wait(false)
	if err := suite.Await(patience/4, "an empty queue", func() bool {
		left := s.Queued()
		for _, path := range left {
			// Without a journal a removed message can come back with the content of a later one that is removed too. That is for
			// a person to look at, so we only count it; nobody's mail may be among it.
			if rec.tolerant && filepath.Base(filepath.Dir(path)) == "corrupt" {
				text, _ := os.ReadFile(path)
				if os.Remove(path) == nil {
					rec.aside++
					t.Logf("in corrupt: %s\n%.300s", filepath.Base(path), text)
				}
			}
		}
		return len(left) == 0
	}); err != nil {
		t.Errorf("%v; left: %s", err, strings.Join(s.Queued(), " "))
	}
	if err := s.End(); err != nil {
		t.Error(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	queueEmpty(t, s)
	tempFiles(t, s, cut)
	l.verifyMessages(s, rec.remote(t, n, moment))
}

// remote returns what the sink has got: before the cut, and since. What it gets twice it must have got so shortly before
// the cut that queued had no time to record it durably.
func (rec *recording) remote(t testing.TB, n int, cut time.Time) []smtptest.Message {
	t.Helper()
	var all []smtptest.Message
	had := map[string]time.Time{}
	for _, c := range rec.taken {
		if c.at < n {
			all = append(all, c.m)
			for _, rcpt := range c.m.Rcpts {
				had[rec.l.identify(c.m.Data)+rcpt] = time.Unix(0, rec.log[c.at].Time)
			}
		}
	}
	since := rec.sink.Messages()[rec.seen:]
	rec.seen += len(since)
	for _, m := range since {
		for _, rcpt := range m.Rcpts {
			at, twice := had[rec.l.identify(m.Data)+rcpt]
			if !twice {
				continue
			}
			rec.again++
			rec.most = max(rec.most, cut.Sub(at))
			if cut.Sub(at) > again {
				t.Errorf("%s was sent to %s %v before the cut, and sent again", rec.l.identify(m.Data), rcpt, cut.Sub(at))
			}
		}
	}
	return append(all, since...)
}

// again is the time in which queued must have recorded durably what another host has taken: a hundred times what it takes,
// for a busy machine.
const again = 5 * time.Second

// TestPowerCutAtAnyWrite is P1 and P2 (F06, F21, Q16, Q20, M01): power goes at a random moment, and of what the disk had not
// flushed by then each write, or each sector, is there or not. Everybody who was told 250 has his message, once and
// whole; nothing damaged stays; queued -check has nothing to say.
//
// POWERCUT=n makes n cuts of each file system, and of more of them: see docs/durability.md for what it has found.
func TestPowerCutAtAnyWrite(t *testing.T) {
	needFUSE(t)
	cuts, each, disks := 8, 8, cutDisks[:2]
	if text := os.Getenv("POWERCUT"); text != "" {
		fmt.Sscan(text, &cuts)
		each, disks = 50, cutDisks
	}
	for _, d := range disks {
		t.Run(d.name, func(t *testing.T) {
			began := time.Now()
			twice, aside, most := 0, 0, time.Duration(0)
			for done := 0; done < cuts; {
				seed := chance(t)
				r := rand.New(rand.NewPCG(seed, 1<<62))
				ok := t.Run(fmt.Sprintf("recording %d", done/each), func(t *testing.T) {
					rec := recordRun(t, d, "", seed)
					for _, n := range rec.moments(min(each, cuts-done), r) {
						rec.cut(t, n, r)
						done++
						if t.Failed() {
							break
						}
					}
					twice, aside, most = twice+rec.again, aside+rec.aside, max(most, rec.most)
				})
				if !ok {
					break
				}
			}
			t.Logf("%d cuts in %v; %d copies sent to the other host again, the oldest of them %v old at the cut; %d files in corrupt",
				cuts, time.Since(began).Round(time.Second), twice, most.Round(time.Millisecond), aside)
		})
	}
}

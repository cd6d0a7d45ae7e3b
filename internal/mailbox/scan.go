package mailbox

import (
	"hash/maphash"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// grain is how long after a change another one has another time, for certain. File systems of this host take it from the kernel's last tick: 4 milliseconds ago, rarely 10, or
// five ticks if the processor that counts them was held up. Others have their server's clock, which is not ours, or count seconds.
const (
	grain     = 30 * time.Millisecond
	wideGrain = 2 * time.Second
)

// grain of a directory's time: one without a fraction is of a file system that counts seconds.
func (s stamp) grain(local bool) int64 {
	if local && s.modified%int64(time.Second) != 0 {
		return int64(grain)
	}
	return int64(wideGrain)
}

// settled: nothing that happened after we looked has this time.
func (s stamp) settled(local bool) bool { return s.seen-s.modified > s.grain(local) }

// stampOf is a directory's version now.
func stampOf(f *os.File) (stamp, error) {
	var st unix.Stat_t
	seen := time.Now() // before: what is changed after this has the time of then
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return stamp{st.Mtim.Nano(), seen.UnixNano()}, nil
}

// files adds what a directory has, new/ or cur/: the names that can be messages. dir is opened anew, so that two readers have an offset each.
func files(all []found, dir *os.File, isNew bool) ([]found, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return all, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	f := os.NewFile(uintptr(fd), dir.Name())
	defer f.Close()
	for {
		more, err := f.Readdirnames(4096)
		for _, name := range more {
			if isName(name) {
				all = append(all, found{name, isNew})
			}
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// isName says whether a file of that name can be a message. One with a line break cannot stand in the list of UIDs, and no program makes one. An index can have been written by
// anybody who shares the maildir, and its names are opened and removed: none leads out of the directory.
func isName(name string) bool {
	return name != "" && name[0] != '.' && name[0] != ':' && !strings.ContainsAny(name, "/\x00\r\n")
}

// found is a file that a reading showed.
type found struct {
	name string
	new  bool
}

// bases finds messages by the part of their names that never changes, for as long as one reading takes.
type bases struct {
	seed  maphash.Seed
	slots []slot
	same  func(i int, base string) bool
}

// slot is small: each look at one is a line of the processor's cache.
type slot struct {
	sum  uint32
	next int32 // index + 1; 0: empty
}

func newBases(n int, same func(i int, base string) bool) *bases {
	size := 16
	for size < 2*n {
		size *= 2
	}
	return &bases{seed: maphash.MakeSeed(), slots: make([]slot, size), same: same}
}

// find returns the index that was added under a base, -1 if there is none.
func (b *bases) find(base string) int {
	at, sum := b.begin(base)
	for ; b.slots[at].next != 0; at = (at + 1) & (len(b.slots) - 1) {
		if i := int(b.slots[at].next - 1); b.slots[at].sum == sum && b.same(i, base) {
			return i
		}
	}
	return -1
}

// add puts an index under a base that is not there. There is room for the n that newBases was told.
func (b *bases) add(base string, i int) {
	at, sum := b.begin(base)
	for b.slots[at].next != 0 {
		at = (at + 1) & (len(b.slots) - 1)
	}
	b.slots[at] = slot{sum, int32(i + 1)}
}

// begin is where the search for a base begins, and what stands there.
func (b *bases) begin(base string) (at int, sum uint32) {
	h := maphash.String(b.seed, base)
	return int(h) & (len(b.slots) - 1), uint32(h >> 32)
}

// reading is what the directories showed, set against what was known.
type reading struct {
	changed []change // other flags, or moved from new/
	missing []int    // known messages that it did not show
	fresh   []found  // files that are no known message
	bases   *bases   // of fresh
	twice   []twins  // with one base
}

type change struct {
	i  int // of the known message
	is found
}

// compare sets files against known messages. nameOf is the known name of one. Two files with one base, which a crash of a program that
// links and unlinks leaves, or a race of two renames, are one message: the one that is known, else the one in cur/, else the one with
// more flags.
func compare(messages []message, nameOf func(int) string, files []found) *reading {
	known := make([]string, len(messages))
	b := newBases(len(messages), func(i int, base string) bool { return baseOf(known[i]) == base })
	for i := range messages {
		known[i] = nameOf(i)
		b.add(baseOf(known[i]), i)
	}
	seen := make([]int32, len(messages)) // file + 1
	r := &reading{}
	if len(messages) == 0 {
		r.fresh = make([]found, 0, len(files))
	}
	others := newBases(len(files), func(i int, base string) bool { return baseOf(r.fresh[i].name) == base })
	for k, f := range files {
		base := baseOf(f.name)
		if base == "" {
			continue
		}
		if i := b.find(base); i >= 0 {
			if seen[i] != 0 {
				r.twice = append(r.twice, twins{files[seen[i]-1], f})
			}
			if seen[i] == 0 || better(files[seen[i]-1], f, known[i]) {
				seen[i] = int32(k + 1)
			}
			continue
		}
		if i := others.find(base); i >= 0 {
			r.twice = append(r.twice, twins{r.fresh[i], f})
			if better(r.fresh[i], f, "") {
				r.fresh[i] = f
			}
			continue
		}
		r.fresh = append(r.fresh, f)
		others.add(base, len(r.fresh)-1)
	}
	r.bases = others
	for i := range messages {
		switch k := seen[i]; {
		case k == 0:
			r.missing = append(r.missing, i)
		case files[k-1].name != known[i] || files[k-1].new != messages[i].inNew():
			r.changed = append(r.changed, change{i, files[k-1]})
		}
	}
	return r
}

// better: of two files of one message b is to be taken.
func better(a, b found, known string) bool {
	switch {
	case a.name == known:
		return false
	case b.name == known:
		return true
	case a.new != b.new:
		return a.new
	}
	return len(b.name) > len(a.name)
}

// again looks once more for what one reading did not show: readdir misses what others rename meanwhile, and who renames thousands may hide one
// from many readings. A message is gone when a reading does not show it during which nothing was renamed. If there is none, it stays for now:
// the times that are noted are those of the first reading, so that the next Sync looks again.
//
// For such a reading it waits until what has changed is old enough. Where others rename all the time there is none, and who would wait in each Sync did little else: for a second it
// does not wait any more, but for a step that needs to know.
func (t *syncing) again(known []string) (*reading, error) {
	b := t.b
	patient := t.hard || time.Since(b.restless) > time.Second
	var r *reading
	for range 2 {
		before, err := b.look()
		if err == nil && patient && !before.quiet(b.local) {
			time.Sleep(grain)
			before, err = b.look()
		}
		if err != nil {
			return r, err
		}
		files, err := b.files()
		if err != nil {
			return r, err
		}
		after, err := b.look()
		if err != nil {
			return r, err
		}
		r = compare(t.x.messages, func(i int) string { return known[i] }, files)
		if len(r.missing) == 0 || before.quiet(b.local) && before.cur.modified == after.cur.modified && before.new.modified == after.new.modified {
			return r, nil
		}
		if !patient {
			break
		}
	}
	r.missing = nil
	b.restless = time.Now()
	time.AfterFunc(2*grain, b.changed) // who follows may hear of no other change
	return r, nil
}

// quiet: what changes from now on has another time. A time to come is that of another clock, for which no wait helps.
func (s state) quiet(local bool) bool {
	for _, d := range [2]stamp{s.cur, s.new} {
		if age := d.seen - d.modified; age >= 0 && age <= d.grain(local) {
			return false
		}
	}
	return true
}

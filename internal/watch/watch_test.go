package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is no measure: a test that waits for so long has failed.
const patience = 10 * time.Second

func newWatcher(t testing.TB) *Watcher {
	t.Helper()
	w, err := New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func openDir(t testing.TB, path string) *os.File {
	t.Helper()
	d, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// bell is a changed as it should be.
type bell struct {
	calls atomic.Int64
	rung  chan struct{}
}

func newBell() *bell { return &bell{rung: make(chan struct{}, 1)} }

func (b *bell) ring() {
	b.calls.Add(1)
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

func add(t testing.TB, w *Watcher, dir *os.File) (*Watch, *bell) {
	t.Helper()
	b := newBell()
	c, err := w.Add(dir, b.ring)
	if err != nil {
		t.Fatal(err)
	}
	return c, b
}

// until waits for calls until what is true after one, or now.
func (b *bell) until(t testing.TB, what string, is func() bool) {
	t.Helper()
	late := time.After(patience)
	for !is() {
		select {
		case <-b.rung:
		case <-late:
			t.Fatalf("%s: no call after %d", what, b.calls.Load())
		}
	}
}

// next waits for one more call than before do.
func (b *bell) next(t testing.TB, what string, do func() error) {
	t.Helper()
	n := b.calls.Load()
	if err := do(); err != nil {
		t.Fatal(err)
	}
	b.until(t, what, func() bool { return b.calls.Load() > n })
}

// quiet waits until what was done before would have been told: until w has told what is done now, elsewhere, and cooled down.
func quiet(t testing.TB, w *Watcher) {
	t.Helper()
	path := t.TempDir()
	c, b := add(t, w, openDir(t, path))
	defer c.Close()
	for i := range 3 { // before the second call all that was changed before the first is told, before the third it has cooled down
		b.next(t, "quiet", func() error { return os.Mkdir(filepath.Join(path, strconv.Itoa(i)), 0o700) })
	}
}

func nothingWatched(t *testing.T, w *Watcher) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dirs) != 0 {
		t.Errorf("%d directories are still watched", len(w.dirs))
	}
}

func touch(path string) func() error { return func() error { return os.WriteFile(path, nil, 0o600) } }

// Whatever changes what a directory lists is told, and nothing else.
func TestChanges(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "cur")
	os.Mkdir(dir, 0o700)
	os.WriteFile(base+"/a", nil, 0o600)
	w := newWatcher(t)
	c, b := add(t, w, openDir(t, dir))
	for _, x := range []struct {
		what string
		do   func() error
	}{
		{"create", touch(dir + "/x")},
		{"rename", func() error { return os.Rename(dir+"/x", dir+"/x:2,S") }},
		{"rename in", func() error { return os.Rename(base+"/a", dir+"/a") }},
		{"rename out", func() error { return os.Rename(dir+"/a", base+"/a") }},
		{"link", func() error { return os.Link(base+"/a", dir+"/l") }},
		{"mkdir", func() error { return os.Mkdir(dir+"/d", 0o700) }},
		{"rmdir", func() error { return os.Remove(dir + "/d") }},
		{"unlink", func() error { return os.Remove(dir + "/l") }},
		{"move itself", func() error { return os.Rename(dir, base+"/new") }},
		{"create after the move", touch(base + "/new/y")},
	} {
		quiet(t, w)
		b.next(t, x.what, x.do)
	}
	quiet(t, w)
	n := b.calls.Load()
	touch(base + "/beside")()
	os.ReadDir(base + "/new")
	os.ReadFile(base + "/new/y")
	quiet(t, w)
	if b.calls.Load() != n || c.Ended() {
		t.Error("called for nothing:", b.calls.Load()-n, c.Ended())
	}
	c.Close()
	touch(base + "/new/z")()
	quiet(t, w)
	if b.calls.Load() != n {
		t.Error("called after Close")
	}
	c.Close()
}

// A thousand files are few calls, and who looks when he is called has seen the last.
func TestStorm(t *testing.T) {
	path := t.TempDir()
	dir := openDir(t, path)
	w := newWatcher(t)
	_, b := add(t, w, dir)
	start := time.Now()
	go func() {
		for i := range 1000 {
			if err := touch(filepath.Join(path, strconv.Itoa(i)))(); err != nil {
				t.Error(err)
			}
		}
	}()
	names := 0
	b.until(t, "the last file", func() bool {
		l, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		names = len(l)
		return names == 1000
	})
	quiet(t, w)
	if n, most := b.calls.Load(), int64(time.Since(start)/Interval)+1; n > most {
		t.Errorf("%d calls in %v", n, time.Since(start))
	} else {
		t.Logf("%d calls in %v", n, time.Since(start))
	}
}

// The rule of Interval, with a clock of our own.
func TestDue(t *testing.T) {
	w := &Watcher{dirs: map[int]*directory{}, source: newWatcher(t).source} // of which it has nothing
	for id := range 2 {
		d := &directory{id: id}
		d.watches = []*Watch{{dir: d}}
		w.dirs[id] = d
	}
	start := time.Now()
	for i, x := range []struct {
		at     time.Duration // of Interval a tenth
		events []event
		calls  []int
		until  time.Duration
	}{
		{0, []event{{id: 0}, {id: 0}}, []int{0}, 10}, // one call of one batch
		{1, []event{{id: 0}}, nil, 10},
		{3, []event{{id: 0}, {id: 1}}, []int{1}, 10}, // the other does not wait
		{9, nil, nil, 10},
		{10, nil, []int{0}, 13},
		{12, []event{{id: 0}, {id: 7}}, nil, 13}, // 7 was closed
		{13, nil, nil, 20},                       // nothing new in 1
		{20, nil, []int{0}, 30},
		{30, nil, nil, 0},
		{31, []event{{id: 0}}, []int{0}, 41}, // at once again
		{32, []event{{id: everything}}, []int{1}, 41},
		{60, []event{{id: 1}}, []int{0, 1}, 70},
		{61, []event{{id: 1}, {id: 1, ended: true}}, []int{1}, 70}, // the end does not wait
		{62, []event{{id: 1}}, nil, 70},
		{70, nil, nil, 0},
	} {
		at := func(d time.Duration) time.Time { return start.Add(d * Interval / 10) }
		var got []int
		for _, c := range w.due(x.events, at(x.at), nil) {
			got = append(got, c.dir.id)
		}
		if fmt.Sprint(got) != fmt.Sprint(x.calls) {
			t.Errorf("%d: calls %v, want %v", i, got, x.calls)
		}
		if x.until == 0 != (len(w.cooling) == 0) || x.until != 0 && !w.cooling[0].until.Equal(at(x.until)) {
			t.Errorf("%d: wakes at another time than %d", i, x.until)
		}
	}
}

// Two who watch one directory are both told, and the second still when the first is gone.
func TestTwice(t *testing.T) {
	path := t.TempDir()
	w := newWatcher(t)
	c1, b1 := add(t, w, openDir(t, path))
	c2, b2 := add(t, w, openDir(t, path))
	n := b2.calls.Load()
	b1.next(t, "first", touch(path+"/1"))
	b2.until(t, "second", func() bool { return b2.calls.Load() > n })
	quiet(t, w)
	c1.Close()
	n = b1.calls.Load()
	b2.next(t, "second alone", touch(path+"/2"))
	quiet(t, w)
	if b1.calls.Load() != n {
		t.Error("the first is called after Close")
	}
	c2.Close()
	nothingWatched(t, w)
}

// Of a directory that is removed the end is told, to each who watches; what replaces it is another.
func TestRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	w := newWatcher(t)
	for range 3 {
		os.Mkdir(path, 0o700)
		dir := openDir(t, path)
		c1, b1 := add(t, w, dir)
		c2, b2 := add(t, w, dir)
		b1.next(t, "create", touch(path+"/f"))
		dir.Close()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		b1.until(t, "removed", c1.Ended)
		b2.until(t, "removed", c2.Ended)
		c1.Close()
		c2.Close()
	}
	nothingWatched(t, w)
}

// Thousands are open at once: each is told of its own changes.
func TestMany(t *testing.T) {
	base := t.TempDir()
	w := newWatcher(t)
	const many = 2000
	var watches [many]*Watch
	var bells [many]*bell
	for i := range many {
		path := filepath.Join(base, strconv.Itoa(i))
		os.Mkdir(path, 0o700)
		dir := openDir(t, path)
		watches[i], bells[i] = add(t, w, dir)
		dir.Close()
	}
	for k := range 200 {
		i := rand.N(many)
		bells[i].next(t, "one of many", touch(filepath.Join(base, strconv.Itoa(i), fmt.Sprint("f", k))))
	}
	quiet(t, w)
	for _, c := range watches {
		c.Close()
	}
	nothingWatched(t, w)
}

// Close waits for the call that is running, and takes back one that is about to.
func TestClose(t *testing.T) {
	path := t.TempDir()
	dir := openDir(t, path)
	w := newWatcher(t)
	var second *Watch
	begun, proceed := make(chan struct{}), make(chan struct{})
	var done atomic.Bool
	first, err := w.Add(dir, func() {
		second.Close() // another's
		close(begun)
		<-proceed
		done.Store(true)
	})
	if err != nil {
		t.Fatal(err)
	}
	if second, err = w.Add(dir, func() { t.Error("a call after Close") }); err != nil {
		t.Fatal(err)
	}
	touch(path + "/f")()
	<-begun
	time.AfterFunc(10*time.Millisecond, func() { close(proceed) })
	first.Close()
	if !done.Load() {
		t.Error("Close has not waited")
	}
	quiet(t, w)
}

// Whoever closes while everything changes is called no more, and nobody waits for ever.
func TestCloseRaces(t *testing.T) {
	base := t.TempDir()
	w := newWatcher(t)
	var dirs [4]*os.File
	for i := range dirs {
		path := filepath.Join(base, strconv.Itoa(i))
		os.Mkdir(path, 0o700)
		dirs[i] = openDir(t, path)
	}
	end := make(chan struct{})
	var changing, watching sync.WaitGroup
	for _, d := range dirs {
		changing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
					os.WriteFile(d.Name()+"/f", nil, 0o600)
					os.Remove(d.Name() + "/f")
				}
			}
		})
	}
	var calls atomic.Int64
	for range 4 {
		watching.Go(func() {
			for range 150 {
				var closed atomic.Bool
				called := make(chan struct{}, 1)
				c, err := w.Add(dirs[rand.N(len(dirs))], func() {
					if closed.Load() {
						t.Error("a call after Close")
					}
					calls.Add(1)
					select {
					case called <- struct{}{}:
					default:
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
				if rand.N(2) == 0 {
					<-called
				}
				c.Close()
				closed.Store(true)
			}
		})
	}
	watching.Wait()
	// And the whole with watches open, from two sides.
	var closed atomic.Bool
	var open []*Watch
	for _, d := range dirs {
		c, err := w.Add(d, func() {
			if closed.Load() {
				t.Error("a call after Close")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	var closing sync.WaitGroup
	closing.Go(w.Close)
	closing.Go(open[0].Close)
	closing.Wait()
	closed.Store(true)
	close(end)
	changing.Wait()
	for _, c := range open[1:] {
		if !c.Ended() {
			t.Error("has not ended")
		}
		c.Close()
	}
	if _, err := w.Add(dirs[0], func() {}); !errors.Is(err, fs.ErrClosed) {
		t.Error("Add after Close:", err)
	}
	if calls.Load() == 0 {
		t.Error("no calls at all")
	}
}

// What is no directory, or is closed, is refused, and costs nothing later.
func TestRefused(t *testing.T) {
	w := newWatcher(t)
	file, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if c, err := w.Add(file, func() {}); err == nil {
			t.Error("watches", file.Name(), c)
		}
		file.Close()
	}
}

// A Watcher leaves nothing behind.
func TestNothingLeft(t *testing.T) {
	dir := openDir(t, t.TempDir())
	w := newWatcher(t)
	w.Close()
	descriptors := func() int {
		l, err := os.ReadDir("/dev/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(l)
	}
	fds, routines := descriptors(), runtime.NumGoroutine()
	for range 20 {
		w, err := New()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := w.Add(dir, func() {}); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		w.Close()
	}
	if n := descriptors(); n != fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	for late := time.Now().Add(patience); runtime.NumGoroutine() > routines; runtime.Gosched() { // one that has said that it ends is still counted
		if time.Now().After(late) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), routines)
		}
	}
}

// BenchmarkLatency is the time from before a rename, as of a delivery, until the call; rename-us is the rename alone.
func BenchmarkLatency(b *testing.B) {
	path := b.TempDir()
	w := newWatcher(b)
	var at atomic.Int64
	called := make(chan struct{}, 1)
	start := time.Now()
	if _, err := w.Add(openDir(b, path), func() {
		at.Store(int64(time.Since(start)))
		select {
		case called <- struct{}{}:
		default:
		}
	}); err != nil {
		b.Fatal(err)
	}
	touch(path + "/0")()
	<-called
	var sum, rename, worst time.Duration
	n := 0
	for b.Loop() {
		time.Sleep(2 * Interval) // a quiet directory
		select {
		case <-called:
		default:
		}
		before := time.Since(start)
		if err := os.Rename(fmt.Sprint(path, "/", n), fmt.Sprint(path, "/", n+1)); err != nil {
			b.Fatal(err)
		}
		rename += time.Since(start) - before
		n++
		<-called
		took := time.Duration(at.Load()) - before
		sum += took
		worst = max(worst, took)
	}
	b.ReportMetric(float64(sum.Microseconds())/float64(n), "us/call")
	b.ReportMetric(float64(rename.Microseconds())/float64(n), "rename-us")
	b.ReportMetric(float64(worst.Microseconds()), "worst-us")
}

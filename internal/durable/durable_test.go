package durable

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func openDirT(t *testing.T, path string) *os.File {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range es {
		s = append(s, e.Name())
	}
	return s
}

func TestCreate_NeverOpensWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	d := openDirT(t, dir)
	if err := os.WriteFile(dir+"/file", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"good": "file", "dangling": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "good", "dangling"} {
		if f, err := Create(d, name, 0o600); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"dangling", "file", "good"}) {
		t.Error(got)
	}
	f, err := Create(d, "new", 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm()&^0o640 != 0 {
		t.Error(st.Mode(), err)
	}
	var missing *os.PathError
	if _, err := Create(d, "no/such", 0o600); !errors.As(err, &missing) || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestPublish_ReplacesNothing(t *testing.T) {
	// Both ways: the system call, and the link where there is none.
	for _, way := range []string{"rename", "link"} {
		t.Run(way, func(t *testing.T) {
			dir := t.TempDir()
			d := openDirT(t, dir)
			for _, n := range []string{"a", "b"} {
				if err := os.WriteFile(dir+"/"+n, []byte(n), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			publish := Publish
			if way == "link" {
				publish = func(sd *os.File, s string, dd *os.File, n string) error {
					o := &Ops{Fault: func(op Op, _ string) error {
						if op == OpRename {
							return syscall.EINVAL
						}
						return nil
					}}
					return o.Publish(sd, s, dd, n)
				}
			}
			if err := publish(d, "a", d, "b"); !errors.Is(err, os.ErrExist) {
				t.Errorf("over another: %v", err)
			}
			if b, _ := os.ReadFile(dir + "/b"); string(b) != "b" {
				t.Errorf("b is %q", b)
			}
			if err := publish(d, "a", d, "c"); err != nil {
				t.Error(err)
			}
			if got := names(t, dir); !slices.Equal(got, []string{"b", "c"}) {
				t.Error(got)
			}
			var le *os.LinkError
			if err := publish(d, "a", d, "d"); !errors.As(err, &le) || !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

func TestLink_ReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	d := openDirT(t, dir)
	for _, n := range []string{"a", "b"} {
		if err := os.WriteFile(dir+"/"+n, []byte(n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var o *Ops
	if err := o.Link(d, "a", d, "b"); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another: %v", err)
	}
	if err := o.Link(d, "a", d, "c"); err != nil || !sameFile(d, "a", d, "c") {
		t.Error("not one file", err)
	}
	if b, _ := os.ReadFile(dir + "/b"); string(b) != "b" {
		t.Errorf("b is %q", b)
	}
	o = &Ops{Fault: func(op Op, _ string) error {
		if op == OpLink {
			return syscall.EMLINK
		}
		return nil
	}}
	if err := o.Link(d, "a", d, "d"); !errors.Is(err, syscall.EMLINK) {
		t.Error(err)
	}
}

// On NFS, a link that was made can be reported as EEXIST.
func TestPublish_LinkMadeButReportedAsFailed(t *testing.T) {
	dir := t.TempDir()
	d := openDirT(t, dir)
	if err := os.WriteFile(dir+"/a", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(dir+"/a", dir+"/b"); err != nil {
		t.Fatal(err)
	}
	if err := (*Ops)(nil).linkUnlink(d, "a", d, "b"); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"b"}) {
		t.Error(got)
	}
}

// Every step of WriteFile fails in turn: the old content or the new one is
// there, whole, and nothing else.
func TestF01_WriteFileFailsAtEachStep(t *testing.T) {
	for _, op := range []Op{OpCreate, OpWrite, OpChmod, OpSync, OpClose, OpRename, OpSyncDir} {
		t.Run(string(op), func(t *testing.T) {
			dir := t.TempDir()
			if err := WriteFile(dir+"/f", []byte("old"), 0o640); err != nil {
				t.Fatal(err)
			}
			o := &Ops{Fault: func(at Op, name string) error {
				if at == op {
					return syscall.ENOSPC
				}
				return nil
			}}
			if err := o.WriteFile(dir+"/f", []byte("new content"), 0o640); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("error %v", err)
			}
			want := "old"
			if op == OpSyncDir {
				want = "new content" // renamed; whether a power cut keeps it is not known
			}
			if b, err := os.ReadFile(dir + "/f"); string(b) != want {
				t.Errorf("content %q, %v", b, err)
			}
			if got := names(t, dir); !slices.Equal(got, []string{"f"}) {
				t.Errorf("left behind: %v", got)
			}
		})
	}
}

// The order is the promise.
func TestWriteFile_Order(t *testing.T) {
	var got []string
	o := &Ops{Fault: func(op Op, name string) error { got = append(got, string(op)); return nil }}
	dir := t.TempDir()
	if err := o.WriteFile(dir+"/f", []byte("x"), 0o604); err != nil {
		t.Fatal(err)
	}
	if want := "create write chmod sync close rename syncdir"; strings.Join(got, " ") != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
	if st, err := os.Stat(dir + "/f"); err != nil || st.Mode() != 0o604 {
		t.Error(st.Mode(), err)
	}
}

// F03: a failed sync is reported, and not tried again.
func TestF03_FailedSyncIsNotTriedAgain(t *testing.T) {
	n := 0
	o := &Ops{Fault: func(op Op, name string) error {
		if op == OpSync {
			if n++; n == 1 {
				return syscall.EIO
			}
		}
		return nil
	}}
	dir := t.TempDir()
	if err := o.WriteFile(dir+"/f", []byte("x"), 0o600); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if n != 1 || len(names(t, dir)) != 0 {
		t.Error(n, names(t, dir))
	}
}

func TestQ20_MkdirAllSyncsEachNewDirectoryAndItsParent(t *testing.T) {
	top := t.TempDir()
	var synced []string
	o := &Ops{Fault: func(op Op, name string) error {
		if op == OpSyncDir {
			synced = append(synced, strings.TrimPrefix(name, top))
		}
		return nil
	}}
	old := syscall.Umask(0o077)
	err := o.MkdirAll(top+"/a/b", 0o751)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/a", "", "/a/b", "/a"}; !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
	if st, err := os.Stat(top + "/a/b"); err != nil || st.Mode() != 0o751|os.ModeDir {
		t.Error(st.Mode(), err)
	}
	if err := MkdirAll(top+"/a/b", 0o700); err != nil {
		t.Error("again:", err)
	}
	if err := os.WriteFile(top+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(top+"/file", 0o700); !errors.Is(err, syscall.ENOTDIR) {
		t.Error("over a file:", err)
	}
	if err := MkdirAll(top+"/file/x", 0o700); !errors.Is(err, syscall.ENOTDIR) {
		t.Error("below a file:", err)
	}
}

func TestSyncs(t *testing.T) {
	d := openDirT(t, t.TempDir())
	f, err := Create(d, "f", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var o *Ops
	if err := o.Write(f, []byte("hello")); err != nil {
		t.Error(err)
	}
	if err := o.WriteAt(f, []byte("J"), 0); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"sync": Sync(f), "datasync": Datasync(f), "syncdir": SyncDir(d), "chmod": o.Chmod(f, 0o644),
	} {
		if err != nil {
			t.Error(name, err)
		}
	}
	if err := Syncfs(f); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := o.Close(f); err != nil {
		t.Error(err)
	}
	if err := Sync(f); !errors.Is(err, os.ErrClosed) {
		t.Error("sync of a closed file:", err)
	}
	if b, err := os.ReadFile(f.Name()); string(b) != "Jello" {
		t.Errorf("%q %v", b, err)
	}
	if err := o.Unlink(d, "f"); err != nil {
		t.Error(err)
	}
	if err := o.Unlink(d, "f"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Those who come while a sync runs wait for the next, and share it.
func TestGroup_NewcomersWaitForTheNextSync(t *testing.T) {
	var mu sync.Mutex
	begun := make(chan int, 10)
	let := make(chan error)
	n := 0
	g := Group{Ops: &Ops{Fault: func(Op, string) error {
		mu.Lock()
		n++
		k := n
		mu.Unlock()
		begun <- k
		return <-let
	}}}
	d := openDirT(t, t.TempDir())
	first := make(chan error, 1)
	go func() { first <- g.Sync(d) }()
	<-begun

	const late = 8
	results := make(chan error, late)
	for range late {
		go func() { results <- g.Sync(d) }()
	}
	// All of them are in the next round when its leader and seven others wait. The
	// round is taken off when it begins, so they cannot be told apart from outside;
	// the count of syncs at the end is what matters.
	for {
		g.mu.Lock()
		waiting := g.next != nil
		g.mu.Unlock()
		if waiting {
			break
		}
		runtime.Gosched()
	}
	select {
	case err := <-results:
		t.Fatal("a newcomer was content with a sync that began before it:", err)
	case k := <-begun:
		t.Fatal("two syncs at once:", k)
	default:
	}
	let <- nil
	if err := <-first; err != nil {
		t.Error(err)
	}
	done := 0
	for done < late {
		select {
		case <-begun:
			let <- syscall.EIO
		case err := <-results:
			if done++; !errors.Is(err, syscall.EIO) {
				t.Error("an error was kept from a waiter:", err)
			}
		}
	}
	if n < 2 || n > 1+late {
		t.Error(n, "syncs")
	}
}

func TestGroup_Many(t *testing.T) {
	d := openDirT(t, t.TempDir())
	var g Group
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if err := g.Sync(d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

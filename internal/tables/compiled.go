package tables

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/alias"
	"postamt/internal/durable"
)

// maxBuilds is how often a text may change while it is compiled before that is given up.
const maxBuilds = 100

// grain is how often the clock of a file system is looked at.
const grain = 4 * time.Millisecond

// Compile makes path.cdb of the alias file path, with its owner, in place of the one that is there. The problems are those of
// alias.Parse. An error is ErrText if the text is to blame, else it is one of writing, and the old file is as it was.
func Compile(path string) ([]alias.Problem, error) { return compile(path, nil) }

// ErrText is, by errors.Is, what is wrong with a file that cannot be compiled: it does not parse, is not safe, or is missing.
var ErrText = errors.New("not a good alias file")

type textError struct{ error }

func (e textError) Is(target error) bool { return target == ErrText }
func (e textError) Unwrap() error        { return e.error }

func compile(path string, ops *durable.Ops) ([]alias.Problem, error) {
	if _, err := openCompiled(path); errors.Is(err, alias.ErrForeign) {
		return nil, fmt.Errorf("%s: %w; remove it if no other program needs it", path+alias.Compiled, err)
	}
	for range maxBuilds {
		before, dev, err := stat(path)
		if err != nil {
			return nil, textError{err}
		}
		known := settled(path, dev, before.Ctime)
		text, info, err := read(path, alias.MaxFile, 0o002)
		if err != nil {
			return nil, textError{err}
		}
		table, problems, err := alias.Parse(path, text)
		if err != nil {
			return problems, textError{err}
		}
		from := alias.Origin{Sum: sumOf(text)}
		if known {
			from.State = before
		}
		if after, _, err := stat(path); err != nil || after != before {
			continue
		}
		if err := write(path+alias.Compiled, info, ops, func(f *os.File) error { return table.Compile(f, from, problems) }); err != nil {
			return problems, err
		}
		// Who compiles an older text at the same time must not have the last word.
		if after, _, err := stat(path); err == nil && after == before {
			return problems, nil
		}
	}
	return nil, textError{fmt.Errorf("%s: others change it all the time", path)}
}

// sumOf is the SHA-256 of a text, of which no copy is made.
func sumOf(text string) (sum [32]byte) {
	h := sha256.New()
	b := make([]byte, 64<<10)
	for text != "" {
		n := copy(b, text)
		h.Write(b[:n])
		text = text[n:]
	}
	h.Sum(sum[:0])
	return sum
}

// stat is the state of the file, and its device. The time of the last change of the inode is in the state, which nobody can set: mv and cp -p
// bring files of any size and time.
func stat(path string) (s alias.State, dev uint64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return s, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return alias.State{Size: st.Size, Inode: int64(st.Ino), Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano()}, uint64(st.Dev), nil
}

// settled: what is written to a file whose inode has this time is given another one from now on, by the clock of its file system, which has a
// grain. A text of the same size could be taken for the one before otherwise. It waits for the next grain, but not for a clock that was set back.
func settled(path string, dev uint64, ctime int64) bool {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var now unix.Stat_t
	for waited := time.Duration(0); waited < interval; waited += grain {
		if f.Chmod(0o600) != nil || unix.Fstat(int(f.Fd()), &now) != nil || uint64(now.Dev) != dev {
			return false
		}
		if now.Ctim.Nano() > ctime {
			return true
		}
		time.Sleep(grain)
	}
	return false
}

// write puts a file in place of path, whole, with the owner of the text, and its mode but for who else may write.
func write(path string, text fs.FileInfo, ops *durable.Ops, content func(*os.File) error) (err error) {
	dir, err := durable.OpenDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(path)
	temp := "." + name + "." + strconv.FormatUint(rand.Uint64(), 36)
	f, err := ops.Create(dir, temp, 0o600)
	if err != nil {
		return err
	}
	err = content(f)
	if err == nil {
		err = own(f, text)
	}
	if err == nil {
		err = ops.Chmod(f, text.Mode().Perm()&^0o022)
	}
	if err == nil {
		err = ops.Sync(f)
	}
	if cerr := ops.Close(f); err == nil {
		err = cerr
	}
	if err == nil {
		err = ops.Rename(dir, temp, dir, name)
	}
	if err != nil {
		ops.Unlink(dir, temp)
		return fmt.Errorf("make %s: %w", path, err)
	}
	return ops.SyncDir(dir)
}

// own gives f to the owner of the text.
func own(f *os.File, text fs.FileInfo) error {
	made, err := f.Stat()
	if err != nil {
		return err
	}
	is, ok := made.Sys().(*syscall.Stat_t)
	want, ok2 := text.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// compiled is an open path.cdb. It is closed when nobody has its table any more.
type compiled struct {
	*os.File
	info  fs.FileInfo
	mtime unix.Timespec

	table    *alias.Table
	from     alias.Origin
	problems []alias.Problem
}

// ReadAt reads what was there when the file was opened, or fails: an address must not be unknown while somebody writes in it. What may change
// is which file has the name.
func (c *compiled) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.File.ReadAt(b, at)
	var st unix.Stat_t
	if serr := unix.Fstat(int(c.Fd()), &st); serr != nil {
		return 0, serr
	}
	if st.Size != c.info.Size() || st.Mtim != c.mtime {
		return 0, errors.New("somebody has written in it")
	}
	return n, err
}

// openCompiled opens the file beside path; nil if there is none.
func openCompiled(path string) (*compiled, error) {
	f, err := os.OpenFile(path+alias.Compiled, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	c := &compiled{File: f}
	if c.info, err = f.Stat(); err == nil && !c.info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil {
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		c.mtime = st.Mtim
	}
	if err == nil {
		c.table, c.from, c.problems, err = alias.OpenCompiled(path, c, c.info.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

// safeBeside: only who may change the text can have made the file, or change it.
func (c *compiled) safeBeside(text fs.FileInfo) error {
	is, ok := c.info.Sys().(*syscall.Stat_t)
	want, ok2 := text.Sys().(*syscall.Stat_t)
	switch {
	case c.info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others than its owner may write it")
	case ok && ok2 && is.Uid != want.Uid && is.Uid != 0:
		return fmt.Errorf("it belongs to uid %d, the text to %d", is.Uid, want.Uid)
	}
	return nil
}

// loadAliases is load of an alias file. The text is the truth: what is compiled counts if it was made of just that text, which its state says
// or, where that is another, its sum. When either was made does not matter, since clocks are set and files moved.
func (s *Set) loadAliases(src *source) error {
	if err := src.aliases.Err(); err != nil {
		src.broken, src.brokenBy = src.compiled, err
	}
	src.compiled, _ = os.Stat(src.path + alias.Compiled)
	seen := src.seen
	info, err := os.Stat(src.path)
	src.seen = info
	if err != nil {
		return err
	}
	if err := safe(src.path, info, alias.MaxFile, 0o002); err != nil {
		return err
	}
	c, err := openCompiled(src.path)
	if err == nil && c != nil {
		err = c.safeBeside(info)
	}
	if src.broken != nil && src.compiled != nil && sameState(src.broken, src.compiled) {
		err = src.brokenBy
	}
	if err == nil && c != nil {
		if state, _, serr := stat(src.path); serr == nil && state == c.from.State {
			s.use(src, c)
			return nil
		}
	}
	text, info, rerr := read(src.path, alias.MaxFile, 0o002)
	if src.seen = info; rerr != nil {
		return rerr
	}
	sum := sumOf(text)
	if err == nil && c != nil {
		if sum == c.from.Sum {
			s.use(src, c)
			return nil
		}
		err = errors.New("made of another text")
	}
	if seen != nil && !sameState(seen, info) && !rested(seen, info, s.now()) {
		src.seen = seen // half a text: it was the other file that had changed
		return nil
	}
	said := ""
	if err != nil {
		said = err.Error() + "; the text is read instead"
		if !errors.Is(err, alias.ErrForeign) {
			said += ", until newaliases makes it anew"
		}
	}
	if said != src.said && said != "" {
		s.tell(alias.Problem{Pos: alias.Pos{File: src.path + alias.Compiled}, Text: said, Warning: true})
	}
	src.said = said
	version := binary.LittleEndian.Uint64(sum[:]) | 1
	if version == src.version && !src.aliases.IsCompiled() {
		return nil
	}
	t, problems, err := alias.Parse(src.path, text)
	if err != nil {
		return err
	}
	s.take(src, t, version, problems)
	return nil
}

// use takes what is compiled.
func (s *Set) use(src *source, c *compiled) {
	src.said = ""
	s.take(src, c.table, binary.LittleEndian.Uint64(c.from.Sum[:])|1, c.problems)
}

// take gives src the table of a text, and tells what is wrong in it unless it is the text that it had.
func (s *Set) take(src *source, t *alias.Table, version uint64, problems []alias.Problem) {
	if version != src.version {
		for _, p := range problems {
			s.tell(p)
		}
	}
	src.aliases, src.version = t, version
}

// Package durable makes files and directory entries permanent. It is the only
// package that calls fsync, rename and link, so that the order of these can be
// reviewed in one place and made to fail in tests.
//
// What it promises, and what callers must add:
//
//   - When Sync returned nil, the content of that file survives a power cut; its
//     name does when SyncDir of its directory returned nil as well. On ext4, XFS
//     and btrfs the fsync of a file that was created under its final name also
//     keeps that name; a rename or link always needs SyncDir.
//   - A failed sync is final. The kernel reports an error once and then takes the
//     pages for clean, so that a second fsync of the same file succeeds and means
//     nothing. Nothing here tries again. The caller abandons the file, removes
//     it, and writes it anew from its source.
//   - Names are given relative to an open directory, in which only the last
//     component is looked at for symbolic links (and refused). A name with a
//     slash is resolved below that directory.
//   - Errors are *os.PathError or *os.LinkError around the system's error.
//
// All of it is safe for concurrent use. No state is kept outside Group.
package durable

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// Op names a step at which a test can make an Ops fail.
type Op string

// The steps.
const (
	OpCreate   Op = "create"
	OpWrite    Op = "write" // the fault leaves half of the bytes written, as a full disk does
	OpSync     Op = "sync"
	OpDatasync Op = "datasync"
	OpSyncDir  Op = "syncdir"
	OpSyncfs   Op = "syncfs"
	OpChmod    Op = "chmod"
	OpClose    Op = "close" // the file is closed all the same
	OpRename   Op = "rename"
	OpLink     Op = "link"
	OpUnlink   Op = "unlink"
	OpMkdir    Op = "mkdir"
)

// Ops carries out the steps of this package. The package's functions are those
// of a nil *Ops. A store that wants its tests to reach each step keeps an *Ops,
// nil in production, and calls its methods.
type Ops struct {
	// Fault, if not nil, is asked before every step and may be called from
	// several goroutines. An error that it returns becomes the step's result; a
	// fault may also kill the process there.
	Fault func(op Op, name string) error
}

func (o *Ops) fault(op Op, name string) error {
	if o == nil || o.Fault == nil {
		return nil
	}
	return o.Fault(op, name)
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

// again repeats a system call that a signal interrupted before it did anything.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// sysMode is the bits of perm as the system has them, set-id and sticky included.
func sysMode(perm os.FileMode) uint32 {
	m := uint32(perm.Perm())
	if perm&os.ModeSetuid != 0 {
		m |= unix.S_ISUID
	}
	if perm&os.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	if perm&os.ModeSticky != 0 {
		m |= unix.S_ISVTX
	}
	return m
}

// OpenDir opens a directory for the functions of this package. One that the
// process may pass through but not list is opened for that only, where the
// system can (Linux): SyncDir of it fails.
func OpenDir(path string) (*os.File, error) {
	return openDir(unix.AT_FDCWD, path, path, 0)
}

// OpenDirAt opens a directory inside a directory, not through a symbolic link.
func OpenDirAt(dir *os.File, name string) (*os.File, error) {
	defer runtime.KeepAlive(dir)
	return openDir(int(dir.Fd()), name, dir.Name()+"/"+name, unix.O_NOFOLLOW)
}

func openDir(at int, name, path string, flags int) (*os.File, error) {
	var fd int
	open := func(how int) error {
		return again(func() (err error) {
			fd, err = unix.Openat(at, name, how|flags|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return
		})
	}
	err := open(unix.O_RDONLY)
	if err == unix.EACCES && oPath != 0 {
		err = open(oPath)
	}
	if err != nil {
		return nil, pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Create makes a new file in dir, open for reading and writing. It never opens
// one that is there (fs.ErrExist), nor follows a symbolic link. The process's
// umask applies to perm.
func (o *Ops) Create(dir *os.File, name string, perm os.FileMode) (*os.File, error) {
	path := dir.Name() + "/" + name
	if err := o.fault(OpCreate, path); err != nil {
		return nil, pathError("create", path, err)
	}
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Openat(int(dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, sysMode(perm))
		return
	})
	runtime.KeepAlive(dir)
	if err != nil {
		return nil, pathError("create", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Write appends p at the file's offset, all of it or an error.
func (o *Ops) Write(f *os.File, p []byte) error {
	if err := o.fault(OpWrite, f.Name()); err != nil {
		f.Write(p[:len(p)/2])
		return pathError("write", f.Name(), err)
	}
	n, err := f.Write(p)
	if err == nil && n < len(p) {
		err = pathError("write", f.Name(), io.ErrShortWrite)
	}
	return err
}

// WriteAt writes p at off, all of it or an error.
func (o *Ops) WriteAt(f *os.File, p []byte, off int64) error {
	if err := o.fault(OpWrite, f.Name()); err != nil {
		f.WriteAt(p[:len(p)/2], off)
		return pathError("write", f.Name(), err)
	}
	_, err := f.WriteAt(p, off)
	return err
}

// Sync makes the content and the attributes of f permanent. After an error the
// file must be abandoned: see the package comment.
func (o *Ops) Sync(f *os.File) error {
	if err := o.fault(OpSync, f.Name()); err != nil {
		return pathError("sync", f.Name(), err)
	}
	return f.Sync()
}

// Datasync is Sync without the attributes that are not needed to read the
// content back.
func (o *Ops) Datasync(f *os.File) error {
	if err := o.fault(OpDatasync, f.Name()); err != nil {
		return pathError("sync", f.Name(), err)
	}
	return datasync(f)
}

// SyncDir makes the entries of a directory permanent.
func (o *Ops) SyncDir(dir *os.File) error {
	if err := o.fault(OpSyncDir, dir.Name()); err != nil {
		return pathError("sync", dir.Name(), err)
	}
	return dir.Sync()
}

// Syncfs makes permanent all that was written to the file system that f is on,
// by anybody: it is for large batches. A rename must come after one Syncfs and
// before another, or a crash can show the name without the content. f must have
// been opened before the writes of which errors are to be heard, and only Linux
// 5.8 and later tells of them: before that, and on other systems, the error is
// errors.ErrUnsupported and nothing was done.
func (o *Ops) Syncfs(f *os.File) error {
	if err := o.fault(OpSyncfs, f.Name()); err != nil {
		return pathError("syncfs", f.Name(), err)
	}
	return pathError("syncfs", f.Name(), syncfs(f))
}

// Chmod sets the mode of an open file, without the umask.
func (o *Ops) Chmod(f *os.File, perm os.FileMode) error {
	if err := o.fault(OpChmod, f.Name()); err != nil {
		return pathError("chmod", f.Name(), err)
	}
	return f.Chmod(perm)
}

// Close closes f and reports what a delayed write left to report (a quota, a
// network file system).
func (o *Ops) Close(f *os.File) error {
	if err := o.fault(OpClose, f.Name()); err != nil {
		f.Close()
		return pathError("close", f.Name(), err)
	}
	return f.Close()
}

// Unlink removes a name that is not a directory.
func (o *Ops) Unlink(dir *os.File, name string) error {
	path := dir.Name() + "/" + name
	if err := o.fault(OpUnlink, path); err != nil {
		return pathError("unlink", path, err)
	}
	err := again(func() error { return unix.Unlinkat(int(dir.Fd()), name, 0) })
	runtime.KeepAlive(dir)
	return pathError("unlink", path, err)
}

// Publish gives a file its final name, and fails with fs.ErrExist when that name
// is taken: nothing is replaced. It is permanent after SyncDir of both
// directories. Where the system cannot rename without replacing, it makes a link
// and removes the old name; a crash between leaves both names.
func (o *Ops) Publish(srcDir *os.File, src string, dstDir *os.File, dst string) error {
	err := o.fault(OpRename, src)
	if err == nil {
		err = again(func() error { return renameNoReplace(int(srcDir.Fd()), src, int(dstDir.Fd()), dst) })
	}
	if err == unix.EINVAL || err == unix.ENOSYS || err == unix.ENOTSUP {
		err = o.linkUnlink(srcDir, src, dstDir, dst)
	}
	return o.linkError("rename", srcDir, src, dstDir, dst, err)
}

func (o *Ops) linkError(op string, srcDir *os.File, src string, dstDir *os.File, dst string, err error) error {
	runtime.KeepAlive(srcDir)
	runtime.KeepAlive(dstDir)
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: srcDir.Name() + "/" + src, New: dstDir.Name() + "/" + dst, Err: err}
}

func (o *Ops) linkUnlink(srcDir *os.File, src string, dstDir *os.File, dst string) error {
	if err := o.fault(OpLink, src); err != nil {
		return err
	}
	err := again(func() error { return unix.Linkat(int(srcDir.Fd()), src, int(dstDir.Fd()), dst, 0) })
	if err != nil && !sameFile(srcDir, src, dstDir, dst) {
		// On NFS the reply to a link that was made can be lost, and its repetition
		// says EEXIST: only the inode tells.
		return err
	}
	if err := o.fault(OpUnlink, src); err != nil {
		return err
	}
	return again(func() error { return unix.Unlinkat(int(srcDir.Fd()), src, 0) })
}

func sameFile(aDir *os.File, a string, bDir *os.File, b string) bool {
	var x, y unix.Stat_t
	return unix.Fstatat(int(aDir.Fd()), a, &x, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		unix.Fstatat(int(bDir.Fd()), b, &y, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		x.Dev == y.Dev && x.Ino == y.Ino
}

// Link gives a file a second name, and fails with fs.ErrExist when that is taken.
// It is permanent after SyncDir of dstDir.
func (o *Ops) Link(srcDir *os.File, src string, dstDir *os.File, dst string) error {
	err := o.fault(OpLink, src)
	if err == nil {
		err = again(func() error { return unix.Linkat(int(srcDir.Fd()), src, int(dstDir.Fd()), dst, 0) })
	}
	return o.linkError("link", srcDir, src, dstDir, dst, err)
}

// Rename gives a file a name, in place of any that has it. It is permanent after
// SyncDir of both directories.
func (o *Ops) Rename(srcDir *os.File, src string, dstDir *os.File, dst string) error {
	err := o.fault(OpRename, src)
	if err == nil {
		err = again(func() error { return unix.Renameat(int(srcDir.Fd()), src, int(dstDir.Fd()), dst) })
	}
	return o.linkError("rename", srcDir, src, dstDir, dst, err)
}

// WriteFile puts data into the file path, in place of any that is there, so
// that after a crash the old or the new content is found, whole. The mode is
// perm exactly, whatever the umask.
func (o *Ops) WriteFile(path string, data []byte, perm os.FileMode) error {
	return o.WriteFileOwned(path, data, perm, -1, -1)
}

// WriteFileOwned is WriteFile and gives the file to uid and gid, of which -1 leaves either as it is.
func (o *Ops) WriteFileOwned(path string, data []byte, perm os.FileMode, uid, gid int) (err error) {
	dir, err := OpenDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(path)
	var f *os.File
	var temp string
	for range 100 {
		temp = "." + name + "." + strconv.FormatUint(rand.Uint64(), 36)
		f, err = o.Create(dir, temp, 0o600)
		if !os.IsExist(err) {
			break
		}
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			o.Unlink(dir, temp)
		}
	}()
	err = o.Write(f, data)
	if err == nil && (uid >= 0 || gid >= 0) {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		err = o.Chmod(f, perm)
	}
	if err == nil {
		err = o.Sync(f)
	}
	if cerr := o.Close(f); err == nil {
		err = cerr
	}
	if err == nil {
		err = o.Rename(dir, temp, dir, name)
	}
	if err != nil {
		return err
	}
	// From here on the new content is the visible one, and removing the temporary
	// name removes nothing.
	return o.SyncDir(dir)
}

// Mkdir makes a directory in dir with exactly the mode perm, and makes it
// permanent: first itself, then its name. A directory that is there is success
// and left as it is, but for the sync of its name: whoever made it may not have
// come that far.
func (o *Ops) Mkdir(dir *os.File, name string, perm os.FileMode) error {
	return o.MkdirOwned(dir, name, perm, -1, -1)
}

// MkdirOwned is Mkdir and gives a new directory to uid and gid, of which -1
// leaves either as it is.
func (o *Ops) MkdirOwned(dir *os.File, name string, perm os.FileMode, uid, gid int) error {
	path := dir.Name() + "/" + name
	if err := o.fault(OpMkdir, path); err != nil {
		return pathError("mkdir", path, err)
	}
	err := again(func() error { return unix.Mkdirat(int(dir.Fd()), name, 0o700) })
	runtime.KeepAlive(dir)
	if err != nil && err != unix.EEXIST {
		return pathError("mkdir", path, err)
	}
	made := err == nil
	sub, err := OpenDirAt(dir, name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if made {
		// A crash before this leaves a directory that only its maker can enter,
		// never one that is too open.
		if uid >= 0 || gid >= 0 {
			if err := sub.Chown(uid, gid); err != nil {
				return err
			}
		}
		if err := o.Chmod(sub, perm); err != nil {
			return err
		}
		if err := o.SyncDir(sub); err != nil {
			return err
		}
	}
	return o.SyncDir(dir)
}

// Adopt gives a new file or directory of ours the group and the mode that the
// directory dir has, as Dovecot does: who may change what is in a shared directory
// may change this too. A file gets no x bits; the owner keeps what he had; a setgid
// bit that the directory was made with stays. Who may not give it to the group of dir
// leaves members of his own group no more than others get.
//
// In a setgid directory nothing but the mode needs changing, and where dir is its
// owner's alone nothing at all.
func (o *Ops) Adopt(f, dir *os.File) error {
	var as, is unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &as); err != nil {
		return pathError("stat", dir.Name(), err)
	}
	if as.Mode&0o077 == 0 {
		return nil
	}
	if err := unix.Fstat(int(f.Fd()), &is); err != nil {
		return pathError("stat", f.Name(), err)
	}
	folder := is.Mode&unix.S_IFMT == unix.S_IFDIR
	mode := os.FileMode(as.Mode&0o077 | is.Mode&0o700)
	if !folder {
		mode &= 0o666
	}
	if is.Gid != as.Gid && mode&0o070 != 0 && unix.Fchown(int(f.Fd()), -1, int(as.Gid)) != nil {
		mode = mode&^0o070 | mode&(mode&0o007<<3)
	}
	if mode == os.FileMode(is.Mode)&0o777 {
		return nil
	}
	if folder && is.Mode&unix.S_ISGID != 0 {
		mode |= os.ModeSetgid
	}
	return o.Chmod(f, mode)
}

// AdoptShared is Adopt where the directory was made to be shared: in one with the setgid bit. It is for what says
// much of messages, which are their owner's alone in any other.
func (o *Ops) AdoptShared(f, dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return pathError("stat", dir.Name(), err)
	}
	if st.Mode&unix.S_ISGID == 0 {
		return nil
	}
	return o.Adopt(f, dir)
}

// CreateLike is Create of a file that is its directory's at once, as Adopt makes it
// later, as far as the umask lets it: for one that others may look at before.
func (o *Ops) CreateLike(dir *os.File, name string) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, pathError("stat", dir.Name(), err)
	}
	f, err := o.Create(dir, name, 0o600|os.FileMode(early(uint32(st.Mode)))&0o066)
	if err == nil {
		if err = o.Adopt(f, dir); err != nil {
			f.Close()
			o.Unlink(dir, name)
			return nil, err
		}
	}
	return f, err
}

// early are the bits for others that what is made in a directory of that mode may have
// before it has its group: those of the group only if it has that from the start.
func early(mode uint32) uint32 {
	if mode&unix.S_ISGID != 0 {
		return mode & 0o077
	}
	return mode & (0o007 | mode&0o007<<3)
}

// MkdirLike makes a directory in dir that has its group and mode, as Adopt does, and
// makes it permanent as Mkdir does.
func (o *Ops) MkdirLike(dir *os.File, name string) error {
	path := dir.Name() + "/" + name
	if err := o.fault(OpMkdir, path); err != nil {
		return pathError("mkdir", path, err)
	}
	sub, _, err := o.makeLike(dir, name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := o.SyncDir(sub); err != nil {
		return err
	}
	return o.SyncDir(dir)
}

// OpenOrMake opens a directory in dir, and makes one like it when it is missing,
// which is not permanent then. made says so.
func (o *Ops) OpenOrMake(dir *os.File, name string) (sub *os.File, made bool, err error) {
	sub, err = OpenDirAt(dir, name)
	if !os.IsNotExist(err) {
		return sub, false, err
	}
	return o.makeLike(dir, name)
}

func (o *Ops) makeLike(dir *os.File, name string) (sub *os.File, made bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, false, pathError("stat", dir.Name(), err)
	}
	// A filter that forbids to make setgid bits (systemd's RestrictSUIDSGID) sees none made
	// where there is nothing left to change.
	err = again(func() error { return unix.Mkdirat(int(dir.Fd()), name, 0o700|early(uint32(st.Mode))) })
	runtime.KeepAlive(dir)
	if err != nil && err != unix.EEXIST {
		return nil, false, pathError("mkdir", dir.Name()+"/"+name, err)
	}
	made = err == nil
	if sub, err = OpenDirAt(dir, name); err != nil {
		return nil, made, err
	}
	// One that is there and ours may be what a crash has left before it was like its directory.
	var is unix.Stat_t
	if err = unix.Fstat(int(sub.Fd()), &is); err == nil && (made || int(is.Uid) == os.Geteuid()) {
		err = o.Adopt(sub, dir)
	}
	if err != nil {
		sub.Close()
		return nil, made, err
	}
	return sub, made, err
}

// MkdirAll makes the directory path and those above it that are missing, each
// with exactly the mode perm, and syncs each new one and the one it is in. A
// path that is there is success.
func (o *Ops) MkdirAll(path string, perm os.FileMode) error {
	path = filepath.Clean(path)
	if st, err := os.Stat(path); err == nil {
		if !st.IsDir() {
			return pathError("mkdir", path, unix.ENOTDIR)
		}
		return nil
	} else if !os.IsNotExist(err) {
		return err
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := o.MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	dir, err := OpenDir(parent)
	if err != nil {
		return err
	}
	defer dir.Close()
	return o.Mkdir(dir, filepath.Base(path), perm)
}

// Create is that of a nil *Ops; so are the functions below.
func Create(dir *os.File, name string, perm os.FileMode) (*os.File, error) {
	return (*Ops)(nil).Create(dir, name, perm)
}

// Sync makes content and attributes of f permanent. See Ops.Sync.
func Sync(f *os.File) error { return (*Ops)(nil).Sync(f) }

// Datasync makes the content of f permanent. See Ops.Datasync.
func Datasync(f *os.File) error { return (*Ops)(nil).Datasync(f) }

// SyncDir makes the entries of a directory permanent. See Ops.SyncDir.
func SyncDir(dir *os.File) error { return (*Ops)(nil).SyncDir(dir) }

// Syncfs makes a whole file system permanent. See Ops.Syncfs.
func Syncfs(f *os.File) error { return (*Ops)(nil).Syncfs(f) }

// Publish names a file without replacing another. See Ops.Publish.
func Publish(srcDir *os.File, src string, dstDir *os.File, dst string) error {
	return (*Ops)(nil).Publish(srcDir, src, dstDir, dst)
}

// Adopt gives a new file the group and mode of a directory. See Ops.Adopt.
func Adopt(f, dir *os.File) error { return (*Ops)(nil).Adopt(f, dir) }

// Rename names a file, replacing another. See Ops.Rename.
func Rename(srcDir *os.File, src string, dstDir *os.File, dst string) error {
	return (*Ops)(nil).Rename(srcDir, src, dstDir, dst)
}

// WriteFile replaces the content of a file as a whole. See Ops.WriteFile.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return (*Ops)(nil).WriteFile(path, data, perm)
}

// WriteFileOwned replaces the content and the owner of a file. See Ops.WriteFileOwned.
func WriteFileOwned(path string, data []byte, perm fs.FileMode, uid, gid int) error {
	return (*Ops)(nil).WriteFileOwned(path, data, perm, uid, gid)
}

// MkdirAll makes a directory and those above it. See Ops.MkdirAll.
func MkdirAll(path string, perm fs.FileMode) error { return (*Ops)(nil).MkdirAll(path, perm) }

package crash

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"postamt/test/killpoint"
)

// Disks whose every write is known. A process of its own serves a FUSE directory with one file for each image; a loop device
// on such a file carries a file system. What the kernel writes to the disk and when it flushes its cache, and what the test
// wants to remember in the same order (that a client has read a 250), becomes one log.
//
// It is another process because a kernel that waits for the server to write a page must never be waited for by the server:
// a page fault or a sync in the process that mounts would be the end of both.

// blocksEnv tells this test binary to be that process, for the directory it names: images are 0.img, 1.img and so on there.
const blocksEnv = "CRASH_BLOCKS"

// TestMain is also the main of two other programs: see killpoint.Launch, and blocksEnv.
func TestMain(m *testing.M) {
	killpoint.Launch()
	if dir := os.Getenv(blocksEnv); dir != "" {
		if err := serveBlocks(dir); err != nil {
			fmt.Fprintln(os.Stderr, "block log:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Kinds of record.
const (
	recordWrite = 'w' // data was written at offset
	recordFlush = 'f' // all that was written to that disk before is to be permanent
	recordMark  = 'm' // data is what the test said
)

// recordHead goes before the data of each record in the log.
type recordHead struct {
	Kind, Disk byte
	Size       uint32 // of the data
	Offset     int64
	Time       int64 // Unix nanoseconds
}

// blockLog is the log while it is written.
type blockLog struct {
	mu sync.Mutex
	f  *os.File
}

// add writes a record, and before that does what it is about: the order of the log is that of the deeds.
func (l *blockLog) add(kind, disk byte, offset int64, data []byte, do func() error) syscall.Errno {
	l.mu.Lock()
	defer l.mu.Unlock()
	if do != nil {
		if err := do(); err != nil {
			return fs.ToErrno(err)
		}
	}
	head := recordHead{Kind: kind, Disk: disk, Size: uint32(len(data)), Offset: offset, Time: time.Now().UnixNano()}
	b, err := binary.Append(make([]byte, 0, 32+len(data)), binary.LittleEndian, head)
	if err == nil {
		_, err = l.f.Write(append(b, data...))
	}
	return fs.ToErrno(err)
}

// blockFile is the file behind a loop device.
type blockFile struct {
	fs.Inode
	image *os.File
	size  uint64
	disk  byte
	log   *blockLog
}

var (
	_ fs.NodeGetattrer = (*blockFile)(nil)
	_ fs.NodeOpener    = (*blockFile)(nil)
	_ fs.NodeReader    = (*blockFile)(nil)
	_ fs.NodeWriter    = (*blockFile)(nil)
	_ fs.NodeFsyncer   = (*blockFile)(nil)
)

func (f *blockFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, f.size
	return 0
}

func (f *blockFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (f *blockFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := f.image.ReadAt(dest, off)
	if err != nil && err != io.EOF {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

func (f *blockFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	return uint32(len(data)), f.log.add(recordWrite, f.disk, off, data, func() error {
		_, err := f.image.WriteAt(data, off)
		return err
	})
}

func (f *blockFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	err := f.log.add(recordFlush, f.disk, 0, nil, nil)
	// A disk takes its time, in which others write what this flush does not cover.
	time.Sleep(time.Millisecond)
	return err
}

// markFile is where the test writes what it wants to remember.
type markFile struct {
	fs.Inode
	log *blockLog
}

var (
	_ fs.NodeOpener = (*markFile)(nil)
	_ fs.NodeWriter = (*markFile)(nil)
)

func (f *markFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0 // each write comes here before it returns
}

func (f *markFile) Write(_ context.Context, _ fs.FileHandle, data []byte, _ int64) (uint32, syscall.Errno) {
	return uint32(len(data)), f.log.add(recordMark, 0, 0, data, nil)
}

// serveBlocks serves the images in dir below dir/fuse, and writes dir/log, until that is unmounted or the test is gone.
func serveBlocks(dir string) error {
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	log := &blockLog{f: f}
	images, err := filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil {
		return err
	}
	root := &fs.Inode{}
	server, err := fs.Mount(filepath.Join(dir, "fuse"), root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "blocklog", MaxWrite: 1 << 20},
		OnAdd: func(ctx context.Context) {
			add := func(name string, node fs.InodeEmbedder) {
				root.AddChild(name, root.NewPersistentInode(ctx, node, fs.StableAttr{Mode: fuse.S_IFREG}), false)
			}
			for i, path := range images {
				image, ierr := os.OpenFile(path, os.O_RDWR, 0)
				info, serr := os.Stat(path)
				if ierr != nil || serr != nil {
					err = fmt.Errorf("%s: %v, %v", path, ierr, serr)
					return
				}
				add(filepath.Base(path), &blockFile{image: image, size: uint64(info.Size()), disk: byte(i), log: log})
			}
			add("marks", &markFile{log: log})
		},
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin) // ends with the test
		unix.Unmount(filepath.Join(dir, "fuse"), unix.MNT_DETACH)
	}()
	server.Wait()
	return f.Close()
}

// blocks is that process as the test sees it.
type blocks struct {
	dir   string
	marks *os.File
	cmd   *exec.Cmd
	life  io.Closer
	once  sync.Once
}

// startBlocks serves the images in dir. The test skips where there is no FUSE.
func startBlocks(t testing.TB, dir string) *blocks {
	t.Helper()
	needFUSE(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "fuse"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := &blocks{dir: dir, cmd: exec.Command(exe)}
	b.cmd.Env = append(os.Environ(), blocksEnv+"="+dir)
	b.cmd.Stderr = os.Stderr
	out, err := b.cmd.StdoutPipe()
	if err == nil {
		b.life, err = b.cmd.StdinPipe()
	}
	if err == nil {
		err = b.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.stop(t) })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("no FUSE file system: %q, %v", line, err)
	}
	if b.marks, err = os.OpenFile(filepath.Join(dir, "fuse", "marks"), os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// needFUSE skips the test where FUSE or its privilege is missing.
func needFUSE(t testing.TB) {
	t.Helper()
	needRoot(t)
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	f.Close()
}

// mark puts text into the log; when it returns it is there.
func (b *blocks) mark(text string) error {
	_, err := b.marks.Write([]byte(text))
	return err
}

// stop ends the process. All loop devices on its files must be gone.
func (b *blocks) stop(t testing.TB) {
	b.once.Do(func() {
		if b.marks != nil {
			b.marks.Close()
		}
		mount := filepath.Join(b.dir, "fuse")
		// The loop device of a file system that was just unmounted lets go of the file a moment later.
		for range 200 {
			if unix.Unmount(mount, 0) != unix.EBUSY {
				break
			}
			time.Sleep(25 * time.Millisecond)
		}
		b.life.Close()
		if err := b.cmd.Wait(); err != nil {
			t.Errorf("the block log's process: %v", err)
		}
	})
}

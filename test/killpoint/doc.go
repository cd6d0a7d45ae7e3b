// Package killpoint runs a program and ends it, or makes one system call fail, at its N-th file-system system call. What a
// crash or a full disk does at a moment that nobody can time, a test does for N = 1, 2, 3, ... until the program gets through.
//
// It uses seccomp user notification: a filter that the program is born with hands each of these calls to us before the kernel
// carries it out, from all threads and all children, and we say whether it is to be carried out, to fail with an errno, or to be
// the program's last. LD_PRELOAD does not see what a Go program does, and strace counts each thread for itself.
//
// What is counted: calls that name, or whose descriptor is open on, something below Plan.Below. Sockets, pipes and what the Go
// runtime does for itself so do not count. There are two kinds. Those that change something: opening with O_CREAT or O_TRUNC,
// write, fsync, rename, link, unlink, mkdir, chmod, utimes, truncate and their relatives, close of what was open for writing. And,
// only with Plan.Looks, those that look: other opens, read, stat, getdents.
//
// What a fault is. Kill: SIGKILL before the call has done anything, to the process that makes it and to the one that was started;
// any other process of the program goes when it next makes such a call. Errno: nothing has been done and the call says so. A
// close, which the kernel always carries out, is carried out: the descriptor is open on /dev/null from then on.
//
// Limits. The count is the same in each run only as far as the program does the same in each run: run it with GOMAXPROCS=1,
// give it one thing to do at a time, and let the test ask Hit where it got to. A write never fails half done. Memory maps and io_uring are not
// seen; flock and sendfile from a file to a socket are not counted. A killed program's page cache survives: for power cuts see
// test/crash. Linux 5.19 or later on amd64 or arm64, no privilege.
//
// A test binary that uses this package calls Launch first of all in TestMain: it starts itself anew, and becomes the program
// once it has the filter.
package killpoint

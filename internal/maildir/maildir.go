// Package maildir keeps messages in maildirs, as maildir(5) says: it delivers
// to them (Store), makes, renames and removes their folders and keeps the lists
// of these (Root), and takes the names of files apart (FileName). It knows no
// protocol and no user.
//
// A maildir is a directory with tmp/, new/ and cur/; a folder of it (Maildir++)
// is a directory ".name" in it that has the same three. A message is one file
// and is never changed. Its name is
//
//	1764000000.Q0h2mc9x4rvk3t7w1qz8eX6b1f0c3a9d42.mx.example.org,S=4711,W=4823
//
// the second it arrived, its queue id, a hash of final mailbox and folder, the
// configured host, the size of the file and the size with CRLF line ends. All
// of it follows from the message and the mailbox, so each attempt to deliver
// makes the same name and a repeated one finds what the first has done.
//
// What a delivery does, and what a crash leaves behind:
//
//	step                                  tmp/            new/     told    a repeated attempt
//	1 create tmp/STEM.random, write it    part            -        no      writes its own; the sweeper removes this one
//	2 fsync the file, close it            whole           -        no      the same
//	3 rename to new/, never replacing     -               perhaps  no      finds it by its name, or writes it again
//	4 fsync new/ (shared with others)     -               whole    yes     finds it by its name
//
// No step is repeated after an error: the attempt's own file is removed and the
// delivery reported as failed for now. When step 4 fails the result is unknown
// and said to be (Result.Unknown).
//
// A message for many mailboxes is written to all of them first, then one
// syncfs(2) does step 2 for all, all are renamed, and a second syncfs does step
// 4. That needs a kernel that reports write errors from syncfs, and a file
// system where it was tried under power cuts; elsewhere it is steps 1 to 4 each.
//
// An attempt is suspect when an earlier one may have got to step 3 unnoticed.
// It first looks for the name in new/ and cur/ of every folder, under any
// flags, because the owner may have read or moved the message, and for the
// tombstone tmp/NAME.gone that our readers leave when they remove a young one.
//
// Promises: a message reported as stored survives power loss (P1) and is there
// once for each mailbox and folder (P2); a full disk or quota, or any other
// error, is reported for that mailbox alone and leaves nothing behind (P5);
// below the base directory of a Target no symbolic link is followed; of a
// message at most a mebibyte is in memory.
package maildir

import (
	"sync"
	"time"

	"postamt/internal/durable"
)

// Options are what a Store needs to know.
type Options struct {
	Host     string           // stands in file names; the configured name of this installation, not what the kernel says today
	MaxOpen  int              // maildirs kept open at most, three descriptors each; 0: 256
	MaxSyncs int              // fsyncs under way at once (each holds a thread); 0: 64
	Now      func() time.Time // nil: time.Now
	Ops      *durable.Ops     // nil but in tests, which make its steps fail
}

// Store delivers to maildirs and keeps those used last open. It is safe for
// concurrent use.
type Store struct {
	host   string
	ops    *durable.Ops
	now    func() time.Time
	blocks blockPool
	syncs  chan struct{}
	limit  int

	mu    sync.Mutex
	boxes map[string]*box
	ring  box // its neighbours are the box used last and the one unused longest

	attempts attempts
}

// New returns a Store. Nothing is opened before it is needed.
func New(o Options) *Store {
	s := &Store{host: EscapeHost(o.Host), ops: o.Ops, now: o.Now, limit: o.MaxOpen}
	if s.limit <= 0 {
		s.limit = 256
	}
	if s.now == nil {
		s.now = time.Now
	}
	if o.MaxSyncs <= 0 {
		o.MaxSyncs = 64
	}
	s.syncs = make(chan struct{}, o.MaxSyncs)
	s.boxes = make(map[string]*box)
	s.ring.prev, s.ring.next = &s.ring, &s.ring
	return s
}

// Close closes the maildirs that are kept open. No delivery may be under way.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = 0
	s.evict()
	s.evict() // the folders first, then what they held
}

// Target names a mailbox to deliver to.
type Target struct {
	// Owner is the final mailbox: two addresses with one Owner get one copy.
	Owner string
	// Base must exist. Missing directories below it are made, with mode 0700,
	// and no symbolic link below it is followed.
	Base string
	// Path of the maildir: Base, or below it.
	Path string
	// Tag asks for the folder of that name; without such a folder it is INBOX.
	Tag string
	// Quota of the whole maildir. Zero: what its maildirsize file says, if there is one.
	Quota Quota
}

// Message is what all copies of a message have in common.
type Message struct {
	ID      string    // the queue id that the name is made of
	Arrived time.Time // when it was accepted; the name has the second
	Suspect bool      // an earlier attempt may have stored it: look first
	Binary  bool      // BINARYMIME: store the bytes as they are, CRLF and all
}

// Copy is one mailbox's copy of a message: the header fields that stand above
// it (lines ended by LF) and where it goes.
type Copy struct {
	Target Target
	Header []byte
}

// Result says what became of a copy.
type Result struct {
	Folder  string // directory of the Maildir++ folder, "" for INBOX
	Name    string // file name; empty when there is none
	Size    int64  // of the file
	Again   bool   // it was there already
	Unknown bool   // Err came when the message was perhaps stored: the next attempt must be suspect
	Err     error  // nil: stored, and on disk
}

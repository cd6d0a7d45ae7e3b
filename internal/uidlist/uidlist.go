// Package uidlist keeps the permanent map from the messages of a folder to
// their UIDs, and the names of keywords, in the text files that Dovecot uses,
// under Dovecot's locks: either may serve the maildir tomorrow, or both today.
// It imports Courier's. It knows file names, not what is in the maildir.
//
//	dovecot-uidlist            3 V1764000000 N8 Gc0ffee...   validity, next UID, GUID of the folder
//	                           5 W4823 :1764000000.M1P2.host  UID, keys, name without flags
//	dovecot-keywords           0 $Forwarded                   letter a in file names
//	dovecot-uidvalidity        69247a00                       in the root: the last validity given out; a hint
//	dovecot-uidvalidity.69247a00                              the same, and what decides: see NextValidity
//
// A header field or key is a letter and a value without spaces. Known are, of a
// line, S and W (sizes), P (POP3 unique-id), O (POP3 order), G (GUID), B; what is
// not known is kept as it is. New lines are appended; the header's N is then
// too low, and the next UID is one above the last line's.
//
// Nothing of a list is held in memory: Read calls a function with each entry,
// later only with those that were appended, and a rewrite copies line by line.
// 100,000 entries cost a read buffer; a repair 16 bytes each.
//
// What is written, and what a crash leaves. All is done under
// dovecot-uidlist.lock (package dotlock).
//
//	step                                        after a crash                          told
//	append 1 write the lines to the list        none, some, half a line                no
//	       2 fdatasync                          all                                    yes
//	rewrite 1 write tmp/RANDOM, fsync, close    the old list; the sweeper takes tmp/   no
//	        2 rename over the list              the old or the new one, both right     no
//	        3 fsync the directory               the new one                            yes
//	validity 1 rename dovecot-uidvalidity.OLD to .NEW, fsync the root    either: a number was never given out
//	         2 write a list with NEW, as above
//
// After step 1 of an append others see the lines already, and a reader may meet
// the lines of a writer that died there. So Read syncs what it has read before
// it returns. A failed write or sync of an append is final: the lines may be
// there or not, and the next writer rewrites the list.
//
// Promises: no UID stands for two messages under one validity; a validity is
// never used again in a maildir; what was read or returned without an error is
// on disk. A list that is damaged is repaired, at the price of new UIDs for the
// messages whose lines were lost, or, when its validity cannot be read or the
// UIDs are used up, begun anew with a higher validity: see Tx.Repair.
package uidlist

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

const (
	listFile     = "dovecot-uidlist"
	keywordsFile = "dovecot-keywords"
	validityFile = "dovecot-uidvalidity"

	lockStale   = 2 * time.Minute // Dovecot's
	lockTimeout = lockStale + 2*time.Second

	// maxLine is the longest line, newline included.
	maxLine = 8 << 10
)

// UID is a message's number in its folder.
type UID uint32

// MaxUID is the highest that is given: RFC 9051 section 9 has UIDs below 2^32,
// and Dovecot keeps 2^32-1 to itself.
const MaxUID UID = 1<<32 - 2

// ErrDamaged means that a list is not in its form. Tx.Repair mends it.
var ErrDamaged = errors.New("list is damaged")

// ErrExhausted means that there is no higher UID. Tx.Repair begins a new list.
var ErrExhausted = errors.New("no UIDs are left")

// ErrName means that a file name cannot stand in a list.
var ErrName = errors.New("name has a line break, a slash or nothing before its flags")

// Header is the first line of a list.
type Header struct {
	Version  int // 3, or 1 (Dovecot 1.0, Courier)
	Validity uint32
	Next     UID      // above that of every entry, whatever the line says
	GUID     string   // 32 hexadecimal digits, or ""
	Rest     []string // fields that are not known, "Pformat" among them
}

// Entry is a line of a list.
type Entry struct {
	UID  UID
	Keys string // separated by spaces, as they stand in the line
	Name string // of the file, up to the first ":"
}

// Key gives the value of a key.
func (e Entry) Key(letter byte) (value string, ok bool) {
	for field := range strings.FieldsSeq(e.Keys) {
		if field[0] == letter {
			return field[1:], true
		}
	}
	return "", false
}

// SetKey gives a key its value, in place of any that it had. Spaces and control
// characters cannot stand in one; SetKey then does nothing and is not ok.
func (e *Entry) SetKey(letter byte, value string) (ok bool) {
	if letter < 'A' || letter > 'Z' || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return false
	}
	var b []byte
	for field := range strings.FieldsSeq(e.Keys) {
		if field[0] != letter {
			b = append(append(b, field...), ' ')
		}
	}
	e.Keys = string(append(append(b, letter), value...))
	return true
}

// BaseName is the part of a file name that identifies the message: up to the
// first ":", which is where Dovecot compares too.
func BaseName(name string) string {
	base, _, _ := strings.Cut(name, ":")
	return base
}

func checkName(name string) error {
	if name == "" || strings.ContainsAny(name, "/\n\r:\x00") {
		return fmt.Errorf("uidlist: %q: %w", name, ErrName)
	}
	return nil
}

// position is how far a list was read, and how to know it again.
type position struct {
	ino     uint64
	mtime   unix.Timespec
	size    int64 // of the file
	offset  int64 // after the last whole line
	lastAt  int64 // where the last line begins
	last    UID   // 0: there is no entry
	header  string
	entries int
	next    UID // as the file has it
}

// List is the list of one folder. It is not safe for concurrent use.
type List struct {
	root, dir *os.File
	ops       *durable.Ops
	hdr       Header
	pos       position
	suspect   bool // an append failed: its lines may not be on disk although they can be read
}

// New returns the list of the folder dir in the maildir root (the same one for
// INBOX), both open for as long as the list is used. Nothing is read. ops is
// nil but in tests.
func New(root, dir *os.File, ops *durable.Ops) *List {
	return &List{root: root, dir: dir, ops: ops}
}

// Header is that of the list as it was last read.
func (l *List) Header() Header { return l.hdr }

// AtLeast has Append give no UID below next, of the same validity, whatever the
// list says: it may be an older copy, or have been cut at the end of a line, and
// the caller has seen more of it. Low then says that it is to be rewritten, or
// who sees nothing but the list gives such a UID.
func (l *List) AtLeast(next UID) { l.hdr.Next = max(l.hdr.Next, next) }

// Low: the file that was read has a lower next UID than was seen before.
func (l *List) Low() bool { return l.pos.ino != 0 && l.pos.next < l.hdr.Next }

// Entries says how many lines the list has, those of messages that are gone
// included. When it is a third more than there are messages, Rewrite is due.
func (l *List) Entries() int { return l.pos.entries }

func (l *List) errorf(format string, args ...any) error {
	return fmt.Errorf("uidlist: %s/%s: %w", l.dir.Name(), listFile, fmt.Errorf(format, args...))
}

// number reads a decimal number as the files have it: digits alone.
func number(s string) (uint32, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

func parseHeader(line string) (h Header, ok bool) {
	version, rest, _ := strings.Cut(line, " ")
	switch version {
	case "1":
		a, b, _ := strings.Cut(rest, " ")
		validity, ok1 := number(a)
		next, ok2 := number(strings.TrimRight(b, " "))
		return Header{Version: 1, Validity: validity, Next: UID(next)}, ok1 && ok2 && validity != 0 && next != 0
	case "3":
		h.Version = 3
		for field := range strings.FieldsSeq(rest) {
			ok := true
			var n uint32
			switch value := field[1:]; field[0] {
			case 'V':
				h.Validity, ok = number(value)
			case 'N':
				n, ok = number(value)
				h.Next = UID(n)
			case 'G':
				// A wrong one is dropped, and the next rewrite makes another.
				if isGUID(value) {
					h.GUID = value
				}
			default:
				h.Rest = append(h.Rest, field)
			}
			if !ok {
				return Header{}, false
			}
		}
		return h, h.Validity != 0 && h.Next != 0
	}
	return Header{}, false
}

func isGUID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 32
}

func (h Header) String() string {
	s := fmt.Sprintf("3 V%d N%d G%s", h.Validity, h.Next, h.GUID)
	if len(h.Rest) > 0 {
		s += " " + strings.Join(h.Rest, " ")
	}
	return s
}

// parseEntry reads a line without its newline.
func parseEntry(line string, version int) (e Entry, ok bool) {
	digits, rest, ok := strings.Cut(line, " ")
	uid, isNumber := number(digits)
	if !ok || !isNumber || uid == 0 || UID(uid) > MaxUID {
		return e, false
	}
	e.UID = UID(uid)
	rest = strings.TrimLeft(rest, " ")
	if version == 3 {
		// Keys up to a field that begins with ":"; a colon may stand in a value.
		keys := 0
		for keys < len(rest) && rest[keys] != ':' {
			space := strings.IndexByte(rest[keys:], ' ')
			if space < 0 {
				return e, false
			}
			keys += space
			for keys < len(rest) && rest[keys] == ' ' {
				keys++
			}
		}
		if keys == len(rest) {
			return e, false
		}
		e.Keys = strings.TrimRight(rest[:keys], " ")
		rest = rest[keys+1:]
	}
	e.Name = BaseName(rest)
	return e, checkName(e.Name) == nil
}

func (e Entry) append(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(e.UID), 10)
	if e.Keys != "" {
		b = append(append(b, ' '), e.Keys...)
	}
	b = append(append(b, " :"...), e.Name...)
	return append(b, '\n')
}

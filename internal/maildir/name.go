package maildir

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"postamt/internal/mutf7"
)

// maxName is the longest file name the usual file systems take.
const maxName = 255

// EscapeHost makes a host name fit to stand in a maildir name: "/" becomes
// \057 and ":" \072, as maildir(5) asks; white space, control bytes and ","
// likewise, because a "," would open a field of Maildir++. It is cut at 64
// bytes, and an empty name becomes "localhost": the name is for people, it is
// the queue id that makes a file unique.
func EscapeHost(host string) string {
	if host == "" {
		return "localhost"
	}
	var b strings.Builder
	for i := 0; i < len(host) && b.Len() < 64; i++ {
		switch c := host[i]; {
		case c == '/' || c == ':' || c == ',' || c == '\\' || c <= ' ' || c >= 0x7f:
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// stem is the part of a delivered message's name that is the same at every
// attempt: a pure function of the message (arrival and queue id), the final
// mailbox with its folder, and the configured host. What follows in the file
// name, ",S=" and ",W=", are the message's sizes.
//
// The error names an id that does not fit into a file name.
func stem(arrived time.Time, id, mailbox, folder, host string) (string, error) {
	if id == "" || len(id) > 64 {
		return "", fmt.Errorf("maildir: queue id of %d bytes", len(id))
	}
	for i := 0; i < len(id); i++ {
		if c := id[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return "", fmt.Errorf("maildir: queue id %q: only letters and digits can stand in a file name", id)
		}
	}
	// The NUL can stand in neither of the two, so no pair looks like another.
	sum := sha256.Sum256([]byte(mailbox + "\x00" + folder))
	b := make([]byte, 0, 128)
	b = strconv.AppendInt(b, arrived.Unix(), 10)
	b = append(b, ".Q"...)
	b = append(b, id...)
	b = append(b, 'X')
	b = hex.AppendEncode(b, sum[:6])
	b = append(b, '.')
	b = append(b, host...)
	return string(b), nil
}

// fullName adds the sizes: S is the file's, W what it is with CRLF line ends.
func fullName(stem string, size, wire int64) string {
	b := make([]byte, 0, len(stem)+32)
	b = append(b, stem...)
	b = append(b, ",S="...)
	b = strconv.AppendInt(b, size, 10)
	b = append(b, ",W="...)
	b = strconv.AppendInt(b, wire, 10)
	return string(b)
}

// hasStem reports whether the file name is that of a message with this stem,
// whatever second, host, sizes and flags are in it: who renames the host between
// two attempts gets no second copy (M14), nor who has moved the first.
func hasStem(name, stem string) bool {
	_, field, _ := strings.Cut(stem, ".")
	_, rest, _ := strings.Cut(name, ".")
	return strings.HasPrefix(rest, field[:strings.IndexByte(field, '.')+1])
}

// MovedName is the name that a delivered message has in another folder: the
// second in front is that of the move, and later than it was. So SavedAt is
// right, the name is one that the message has never had anywhere, and hasStem
// still knows it. Not ok: deliver has not made the name.
func MovedName(name string, now time.Time) (moved string, ok bool) {
	seconds, rest, _ := strings.Cut(name, ".")
	field, _, ok := strings.Cut(rest, ".")
	id, hash := field, ""
	if i := strings.LastIndexByte(field, 'X'); i > 0 {
		id, hash = field[:i], field[i+1:]
	}
	sum, err := hex.DecodeString(hash)
	was, perr := strconv.ParseUint(seconds, 10, 62)
	if !ok || id[:min(1, len(id))] != "Q" || len(sum) != 6 || err != nil || perr != nil {
		return "", false
	}
	return strconv.FormatInt(max(now.Unix(), int64(was)+1), 10) + "." + rest, true
}

// SavedAt is the second in front of a file name: when the message was put where
// it is, by the convention that all who deliver to maildirs keep. Not ok: there is
// none, or none that can be (before 1990, or after tomorrow).
func SavedAt(name string, now time.Time) (t time.Time, ok bool) {
	seconds, _, _ := strings.Cut(name, ".")
	n, err := strconv.ParseUint(seconds, 10, 62)
	t = time.Unix(int64(n), 0)
	return t, err == nil && t.Year() >= 1990 && t.Before(now.Add(24*time.Hour))
}

// sizeInName reads ",S=" from a file name, the size that its writer meant it
// to have; -1 when there is none.
func sizeInName(name string) int64 {
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name = name[:i]
	}
	return fieldInName(name, ",S=")
}

// fieldInName reads the number after ",S=" or ",W="; -1 when there is none.
func fieldInName(name, field string) int64 {
	_, s, ok := strings.Cut(name, field)
	if !ok {
		return -1
	}
	s, _, _ = strings.Cut(s, ",")
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// tempName is a name for one attempt's file in tmp/. It is random although the
// final name is not: with a shared one a second attempt would write into the
// file that a first, stalled one may still rename into new/.
func tempName(stem string) string {
	b := make([]byte, 0, len(stem)+17)
	b = append(b, stem...)
	b = append(b, '.')
	return string(strconv.AppendUint(b, rand.Uint64(), 36))
}

// ErrFolder is a name that no folder can have.
var ErrFolder = errors.New("maildir: not a folder name")

// FolderDir gives the directory of the Maildir++ folder that a tag names,
// "lists.go" as ".lists.go" (go below lists), in modified UTF-7 (RFC 3501
// section 5.1.3) as Dovecot and Courier write it. A tag comes from a stranger's
// RCPT, a folder's name from an IMAP client: ErrFolder for one that validFolder
// does not take, and one too long.
func FolderDir(tag string) (string, error) {
	if !validFolder(tag) {
		return "", ErrFolder
	}
	dir := "." + mutf7.Encode(tag)
	if len(dir) > maxName {
		return "", ErrFolder
	}
	return dir, nil
}

// validFolder reports whether a name is one of a folder: UTF-8, no empty
// component (so never ".", ".." or a leading dot), no "/", no control
// character, no leading "~".
func validFolder(name string) bool {
	if name == "" || name[0] == '~' || !utf8.ValidString(name) {
		return false
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" {
			return false
		}
	}
	for _, r := range name {
		if r == '/' || r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return false
		}
	}
	return true
}

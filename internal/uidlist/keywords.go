package uidlist

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxKeywords is how many keywords a folder can have: one for each letter.
const MaxKeywords = 26

// maxKeyword is the length of the longest name.
const maxKeyword = 255

// ErrKeywordsFull means that all letters have a keyword.
var ErrKeywordsFull = errors.New("folder has 26 keywords already")

// ErrKeyword means that a name can be no keyword.
var ErrKeyword = errors.New("not a keyword")

// Keywords are the names of a folder's keywords; that at 0 has the letter a in
// file names, "" is a letter without a name.
type Keywords [MaxKeywords]string

// Index finds a keyword, in any case (RFC 9051 section 2.3.2). -1: it has no letter.
func (k *Keywords) Index(name string) int {
	for i, n := range k {
		if n != "" && strings.EqualFold(n, name) {
			return i
		}
	}
	return -1
}

// Add gives a keyword the first free letter, if it has none. The error is
// ErrKeyword or ErrKeywordsFull, the index then -1.
func (k *Keywords) Add(name string) (int, error) {
	if !validKeyword(name) {
		return -1, ErrKeyword
	}
	if i := k.Index(name); i >= 0 {
		return i, nil
	}
	for i := range k {
		if k[i] == "" {
			k[i] = name
			return i, nil
		}
	}
	return -1, ErrKeywordsFull
}

// validKeyword takes what can stand in the file. IMAP's atoms are fewer.
func validKeyword(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f {
			return false
		}
	}
	return name != "" && len(name) <= maxKeyword
}

// Letters are those of a set of keywords, of which bit 0 is the letter a.
func Letters(set uint32) string {
	var b []byte
	for i := range MaxKeywords {
		if set&(1<<i) != 0 {
			b = append(b, 'a'+byte(i))
		}
	}
	return string(b)
}

// Keywords reads the names of the folder's keywords. Lines that are not
// "number name" are passed over, as Dovecot does.
func (l *List) Keywords() (Keywords, error) {
	k, _, err := l.readKeywords()
	return k, err
}

func (l *List) readKeywords() (k Keywords, st unix.Stat_t, err error) {
	f, st, err := open(l.dir, keywordsFile)
	if err != nil || f == nil {
		return k, st, err
	}
	f.Close()
	err = eachLine(l.dir, keywordsFile, func(line string) {
		digits, name, _ := strings.Cut(line, " ")
		if i, ok := number(digits); ok && i < MaxKeywords && name != "" && k.Index(name) < 0 {
			k[i] = name
		}
	})
	if err != nil {
		err = fmt.Errorf("uidlist: read %s: %w", keywordsFile, err)
	}
	return k, st, err
}

// AddKeyword gives a keyword a letter, if it has none, and returns its index
// when that is on disk: only then may a file name have the letter.
func (t *Tx) AddKeyword(name string) (int, error) {
	k, st, err := t.l.readKeywords()
	if err != nil {
		return -1, err
	}
	if i := k.Index(name); i >= 0 {
		return i, nil
	}
	i, err := k.Add(name)
	if err != nil {
		return -1, fmt.Errorf("uidlist: %s/%s: %.40q: %w", t.l.dir.Name(), keywordsFile, name, err)
	}
	return i, t.writeKeywords(k, st)
}

// SetKeywords writes the names of all keywords: it is for an import.
func (t *Tx) SetKeywords(k Keywords) error {
	_, st, err := t.l.readKeywords()
	if err != nil {
		return err
	}
	return t.writeKeywords(k, st)
}

func (t *Tx) writeKeywords(k Keywords, old unix.Stat_t) error {
	second, _ := old.Mtim.Unix()
	_, err := t.replace(keywordsFile, second, func(w *bufio.Writer) error {
		for i, name := range k {
			if name != "" {
				fmt.Fprintf(w, "%d %s\n", i, name)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("uidlist: write %s/%s: %w", t.l.dir.Name(), keywordsFile, err)
	}
	return nil
}

func openKeywordDir(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), courierKeywords, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name() + "/" + courierKeywords, Err: err}
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+courierKeywords), nil
}

package alias

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"postamt/internal/cdb"
)

// A compiled file is a cdb of the entries of one alias file, by their keys, in their order:
//
//	LINE VALUE\nTEXT     the line of the key, where in TEXT the right-hand side begins, and the lines of the entry as they are in the file
//
// so that what is found in it is parsed, and explained, as if it stood in the file. The record of the empty key, which no entry has, is the first
// and says what else Parse says of the file:
//
//	postamt aliases 1
//	sum HEX                          Origin
//	text SIZE INODE MTIME CTIME
//	entries N
//	include "PATH"                   of each, as Table.Includes has them
//	warning LINE COLUMN "TEXT"       or "error": each Problem
const version = "postamt aliases 1"

// Compiled is the end of the name of a compiled file, behind that of the text.
const Compiled = ".cdb"

// Origin is the text from which a compiled file was made.
type Origin struct {
	Sum   [32]byte // SHA-256
	State          // zero if another text might get the same
}

// State is what stat(2) tells of a file with its text, times in nanoseconds.
type State struct{ Size, Inode, Mtime, Ctime int64 }

// Errors of OpenCompiled.
var (
	ErrForeign = errors.New("not made by postamt")
	errEntry   = errors.New("not an entry")
)

// compiled is the part of a table that looks up in such a file.
type compiled struct {
	*cdb.Reader
	count    int
	includes []string
	failed   atomic.Pointer[error] // the first of reading
}

// Compile writes the table of one file, which Parse has made with these problems, to the start of w.
func (t *Table) Compile(w io.WriteSeeker, from Origin, problems []Problem) error {
	p := t.parts[0]
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nsum %x\ntext %d %d %d %d\nentries %d\n", version, from.Sum, from.Size, from.Inode, from.Mtime, from.Ctime, len(p.entries))
	for _, path := range t.Includes() {
		fmt.Fprintf(&b, "include %q\n", path)
	}
	for _, x := range problems {
		kind := "error"
		if x.Warning {
			kind = "warning"
		}
		fmt.Fprintf(&b, "%s %d %d %q\n", kind, x.Pos.Line, x.Pos.Col, x.Text)
	}
	c := cdb.NewWriter(w)
	err := c.Add("", b.String())
	var value []byte
	for i := range p.entries {
		e := &p.entries[i]
		value = strconv.AppendUint(value[:0], uint64(e.line), 10)
		value = append(value, ' ')
		value = strconv.AppendUint(value, uint64(e.value-e.start), 10)
		value = append(value, '\n')
		value = append(value, p.text[e.start:e.end]...)
		if err == nil {
			err = c.Add(p.key(i), string(value))
		}
	}
	if err == nil {
		err = c.Close()
	}
	return err
}

// OpenCompiled is the table that Parse would make of the text of file, looked up in r, which has size octets and must stay as it is: what it
// takes does not grow with the number of entries. When r cannot be read later, or is no whole file, keys that are looked up have entries with
// one Bad target, so that mail waits, and Err says why.
func OpenCompiled(file string, r io.ReaderAt, size int64) (*Table, Origin, []Problem, error) {
	var from Origin
	c, err := cdb.NewReader(r, size)
	if err != nil {
		return nil, from, nil, err
	}
	head, ok, err := c.Find(nil)
	if err != nil {
		return nil, from, nil, err
	}
	first, rest, _ := strings.Cut(head, "\n")
	switch {
	case !ok || !strings.HasPrefix(first, version[:len(version)-1]):
		return nil, from, nil, ErrForeign
	case first != version:
		return nil, from, nil, errors.New("made by another version of postamt")
	}
	p := &part{file: file, compiled: &compiled{Reader: c}}
	var problems []Problem
	for rest != "" {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		word, line, _ := strings.Cut(line, " ")
		var err error
		switch word {
		case "sum":
			if len(line) != hex.EncodedLen(len(from.Sum)) {
				err = errEntry
			} else {
				_, err = hex.Decode(from.Sum[:], []byte(line))
			}
		case "text":
			_, err = fmt.Sscanf(line, "%d %d %d %d", &from.Size, &from.Inode, &from.Mtime, &from.Ctime)
		case "entries":
			p.compiled.count, err = strconv.Atoi(line)
		case "include":
			line, err = strconv.Unquote(line)
			p.compiled.includes = append(p.compiled.includes, line)
		case "warning", "error":
			x := Problem{Pos: Pos{File: file}, Warning: word == "warning"}
			_, err = fmt.Sscanf(line, "%d %d %q", &x.Pos.Line, &x.Pos.Col, &x.Text)
			problems = append(problems, x)
		default:
			err = errEntry
		}
		if err != nil {
			return nil, from, nil, fmt.Errorf("%w: %s %w", cdb.ErrFormat, show(word), err)
		}
	}
	if from.Sum == [32]byte{} || p.compiled.count < 0 {
		return nil, from, nil, cdb.ErrFormat
	}
	return &Table{parts: []*part{p}}, from, problems, nil
}

// IsCompiled: a part of the table is looked up in a file.
func (t *Table) IsCompiled() bool {
	if t != nil {
		for _, p := range t.parts {
			if p.compiled != nil {
				return true
			}
		}
	}
	return false
}

// Err is why a compiled file could not be read, if that has happened. It stays.
func (t *Table) Err() error {
	if t != nil {
		for _, p := range t.parts {
			if p.compiled == nil {
				continue
			}
			if err := p.compiled.failed.Load(); err != nil {
				return *err
			}
		}
	}
	return nil
}

// broken is the entry in place of one that cannot be read.
func (p *part) broken(err error) Entry {
	p.compiled.failed.CompareAndSwap(nil, &err)
	return Entry{p: p, i: -1}
}

// findCompiled is the entry of a key.
func (p *part) findCompiled(key []byte) (Entry, bool) {
	value, ok, err := p.compiled.Find(key)
	switch {
	case err != nil:
		return p.broken(err), true
	case !ok:
		return Entry{}, false
	}
	return p.record(cdb.Record{Key: string(key), Value: value}), true
}

func (p *part) record(r cdb.Record) Entry {
	e := Entry{p: p, key: r.Key, value: r.Value}
	if _, _, _, err := e.stored(); err != nil {
		return p.broken(err)
	}
	return e
}

// stored is the line, the place of the right-hand side and the text of an entry of a compiled file.
func (e Entry) stored() (line, value int, text string, err error) {
	head, text, _ := strings.Cut(e.value, "\n")
	a, b, _ := strings.Cut(head, " ")
	line, err = strconv.Atoi(a)
	if err == nil {
		value, err = strconv.Atoi(b)
	}
	if err != nil || line < 1 || line > math.MaxInt32 || value < 0 || value > len(text) || len(text) > MaxFile {
		return 0, 0, "", fmt.Errorf("%w: %s is %w", cdb.ErrFormat, show(e.key), errEntry)
	}
	return line, value, text, nil
}

// allCompiled yields all entries; the last is broken if they cannot all be read.
func (p *part) allCompiled(yield func(Entry) bool) bool {
	for r, err := range p.compiled.All() {
		if err != nil {
			return yield(p.broken(err))
		}
		if r.Key != "" && !yield(p.record(r)) {
			return false
		}
	}
	return true
}

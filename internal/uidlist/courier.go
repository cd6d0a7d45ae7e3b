package uidlist

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// Courier's files.
const (
	courierList     = "courierimapuiddb"
	courierPop3     = "courierpop3dsizelist"
	courierKeywords = "courierimapkeywords"
)

// popEntry is a line of courierpop3dsizelist.
type popEntry struct {
	name, uidl string
	order      int
	listed     bool // in courierimapuiddb
}

// importCourier writes a list from courierimapuiddb, whose form is that of
// version 1, and courierpop3dsizelist: its unique-ids become keys P, and its
// order, which POP3 clients may rely on, keys O. Messages that only POP3 has
// seen follow, with new UIDs. done is false when Courier has left neither.
func (t *Tx) importCourier() (done bool, err error) {
	l := t.l
	pop, err := readPopList(l.dir)
	if err != nil {
		return false, err
	}
	f, _, err := open(l.dir, courierList)
	if err != nil {
		return false, err
	}
	if f == nil && pop == nil {
		return false, nil
	}
	var s salvaged
	if f != nil {
		defer f.Close()
		if s, err = salvage(f); err != nil {
			return false, err
		}
	}
	if !s.ok || s.hdr.Version != 1 || s.next+uint64(len(pop)) > uint64(MaxUID) {
		s = salvaged{next: 1}
		if s.hdr.Validity, err = NextValidity(l.root, 0, l.ops); err != nil {
			return false, err
		}
	}
	byName := make(map[string]*popEntry, len(pop))
	for i := range pop {
		byName[pop[i].name] = &pop[i]
	}
	// The header comes first and has the next UID.
	next, more := UID(s.next), UID(len(pop))
	if err := s.each(f, func(e Entry) error {
		if p := byName[e.Name]; p != nil && !p.listed {
			p.listed = true
			more--
		}
		return nil
	}); err != nil {
		return false, err
	}
	hdr := Header{Validity: s.hdr.Validity, Next: next + more}
	return true, t.replaceList(hdr, func(emit func(Entry) error) error {
		err := s.each(f, func(e Entry) error {
			if p := byName[e.Name]; p != nil {
				p.keys(&e)
			}
			return emit(e)
		})
		for i := range pop {
			if p := &pop[i]; err == nil && !p.listed {
				e := Entry{UID: next, Name: p.name}
				p.keys(&e)
				next++
				err = emit(e)
			}
		}
		return err
	})
}

func (p *popEntry) keys(e *Entry) {
	e.SetKey('O', fmt.Sprint(p.order))
	e.SetKey('P', p.uidl)
}

// readPopList reads courierpop3dsizelist: "/3 next validity", then lines of
// name, size and uid:validity:utf8, the last part only in version 3. The
// unique-id that Courier shows is UIDuid-validity. Lines and versions that are
// not known are passed over, as Courier does.
func readPopList(dir *os.File) ([]popEntry, error) {
	f, _, err := open(dir, courierPop3)
	if err != nil || f == nil {
		return nil, err
	}
	defer f.Close()
	r := scanner{r: bufio.NewReaderSize(f, maxLine)}
	line, _, err := r.line()
	if err != nil || !strings.HasPrefix(line, "/2 ") && !strings.HasPrefix(line, "/3 ") {
		if err == io.EOF {
			err = nil
		}
		return nil, err
	}
	var list []popEntry
	for {
		line, long, err := r.line()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		// The name may have spaces, so from the right.
		i := strings.LastIndexByte(line, ' ')
		if long || i < 0 {
			continue
		}
		j := strings.LastIndexByte(line[:i], ' ')
		if j < 0 {
			continue
		}
		part := strings.Split(line[i+1:], ":")
		name := BaseName(line[:j])
		if len(part) < 2 || checkName(name) != nil {
			continue
		}
		uid, ok1 := number(part[0])
		validity, ok2 := number(part[1])
		if !ok1 || !ok2 {
			continue
		}
		uidl := fmt.Sprintf("UID%d-%d", uid, validity)
		list = append(list, popEntry{name: name, uidl: uidl, order: len(list) + 1})
	}
}

// CourierKeywords reads the keywords that Courier has left in the folder dir:
// their names, and for each message that has any, by BaseName, the letters for
// its file name. There are none when ok is false.
//
// It is for a folder without dovecot-keywords. Who imports them gives the files
// their letters first and writes the names last, so that a crash in between
// makes the next one begin again.
func CourierKeywords(dir *os.File) (names Keywords, letters map[string]string, ok bool, err error) {
	sub, err := openKeywordDir(dir)
	if err != nil || sub == nil {
		return names, nil, false, err
	}
	defer sub.Close()
	letters = make(map[string]string)
	index := func(name string) int {
		i, _ := names.Add(name)
		return i
	}
	// ":list" has names, an empty line, then lines of file name and numbers.
	if err := eachLine(sub, ":list", func() func(string) {
		var list []int // where a keyword is in names; -1: nowhere
		inNames := true
		return func(line string) {
			if inNames {
				if inNames = line != ""; inNames {
					list = append(list, index(line))
				}
				return
			}
			i := strings.LastIndexByte(line, ':')
			if i < 1 {
				return
			}
			var set uint32
			for n := range strings.FieldsSeq(line[i+1:]) {
				if k, ok := number(n); ok && int(k) < len(list) && list[k] >= 0 {
					set |= 1 << list[k]
				}
			}
			letters[BaseName(line[:i])] = Letters(set)
		}
	}()); err != nil {
		return names, nil, false, err
	}
	// A change since is a file of that name with one keyword a line, or, while
	// it is being made, ".NUMBER.name", of which the highest number holds.
	files, err := sub.Readdirnames(-1)
	if err != nil {
		return names, nil, false, err
	}
	rank := make(map[string]uint64)
	for _, file := range files {
		base, r := file, uint64(1<<63)
		if rest, dotted := strings.CutPrefix(file, "."); dotted {
			digits, after, _ := strings.Cut(rest, ".")
			n, ok := number(digits)
			if !ok {
				continue
			}
			base, r = after, uint64(n)+1
		}
		if base == "" || base == ":list" || r < rank[base] {
			continue
		}
		rank[base] = r
		var set uint32
		if err := eachLine(sub, file, func(line string) {
			if i := index(line); i >= 0 {
				set |= 1 << i
			}
		}); err != nil {
			return names, nil, false, err
		}
		letters[BaseName(base)] = Letters(set)
	}
	for name, l := range letters {
		if l == "" {
			delete(letters, name)
		}
	}
	return names, letters, names != Keywords{}, nil
}

func eachLine(dir *os.File, name string, f func(string)) error {
	file, _, err := open(dir, name)
	if err != nil || file == nil {
		return err
	}
	defer file.Close()
	r := scanner{r: bufio.NewReaderSize(file, maxLine)}
	for {
		line, long, err := r.line()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !long {
			f(line)
		}
	}
}

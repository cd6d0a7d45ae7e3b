package maildir

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The files of annotations: of a folder, in its directory, so that they go where
// it goes; and of the user's view of the server, in the maildir. They are text
// that belongs into a backup, as subscriptions and specialuse are, and unlike the
// postamt.* that can be made anew; so they have no such name.
const (
	metadataFile       = "metadata"
	serverMetadataFile = "metadata.server"
)

// The limits of annotations. RFC 5464 section 4.1: of a value 1024 octets at
// least, and ten of them.
const (
	MaxAnnotation  = 32 << 10 // octets of a value
	MaxAnnotations = 1000     // of a folder
)

// The errors of SetMetadata, after which nothing is changed.
var (
	ErrAnnotationSize  = errors.New("maildir: the value of an annotation is too long")
	ErrAnnotationCount = errors.New("maildir: too many annotations")
	ErrAnnotationRoom  = errors.New("maildir: annotations take too much room")
)

// Annotation is an entry of a folder with its value (RFC 5464).
type Annotation struct {
	Entry string
	Value []byte // any octets; nil: no such annotation
}

// metadata opens the directory of a folder's annotations, "" the user's view of
// the server, and names the file there.
func (r *Root) metadata(name string) (dir *os.File, file string, err error) {
	if name == "" {
		dir, err = openDir(r.dir, ".")
		return dir, serverMetadataFile, err
	}
	dir, err = r.in(name)
	return dir, metadataFile, err
}

// in opens the directory of a folder. INBOX is there without cur, too.
func (r *Root) in(name string) (*os.File, error) {
	if isInbox(name) {
		return openDir(r.dir, ".")
	}
	dir, _, err := r.Open(name)
	return dir, err
}

// Metadata lists the annotations of a folder, or with "" of the server, by their
// entries. Errors: ErrNoFolder, ErrFolder, others.
//
// A line of the file is an entry and a value, both as a string of Go, which has no
// octet that could end it or the line:
//
//	"/private/comment" "My own \"comment\"\nin two lines"
func (r *Root) Metadata(name string) ([]Annotation, error) {
	dir, file, err := r.metadata(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	text, _, err := r.readList(dir, file)
	if err != nil {
		return nil, err
	}
	var list []Annotation
	for line := range strings.Lines(string(text)) {
		if a, ok := annotation(line); ok {
			list = append(list, a)
		}
	}
	// Of two lines for an entry, which only a person can have written, the first.
	slices.SortStableFunc(list, func(a, b Annotation) int { return strings.Compare(a.Entry, b.Entry) })
	return slices.CompactFunc(list, func(a, b Annotation) bool { return a.Entry == b.Entry }), nil
}

// annotation reads a line.
func annotation(line string) (a Annotation, ok bool) {
	entry, line, ok1 := goString(line)
	value, line, ok2 := goString(strings.TrimLeft(line, " \t"))
	return Annotation{entry, []byte(value)}, ok1 && ok2 && strings.TrimSpace(line) == ""
}

// goString reads a string that a line begins with.
func goString(line string) (s, rest string, ok bool) {
	if line == "" || line[0] != '"' {
		return "", line, false
	}
	q, err := strconv.QuotedPrefix(line)
	if err != nil {
		return "", line, false
	}
	s, err = strconv.Unquote(q)
	return s, line[len(q):], err == nil
}

// SetMetadata makes these the values of their entries: all of them, or none.
// Lines that are no annotation stay. Errors: ErrNoFolder, ErrFolder, those above,
// others.
func (r *Root) SetMetadata(ctx context.Context, name string, set []Annotation) error {
	for _, a := range set {
		if len(a.Value) > MaxAnnotation {
			return ErrAnnotationSize
		}
	}
	dir, file, err := r.metadata(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.editList(ctx, dir, file, func(text []byte, _ bool) ([]byte, error) {
		var out []byte
		n := 0
		for line := range strings.Lines(string(text)) {
			a, ok := annotation(line)
			if ok && slices.ContainsFunc(set, func(s Annotation) bool { return s.Entry == a.Entry }) {
				continue
			}
			if ok {
				n++
			}
			out = append(append(out, strings.TrimRight(line, "\r\n")...), '\n')
		}
		added := false
		for i, a := range set {
			// Of two values for an entry the last.
			if a.Value == nil || slices.ContainsFunc(set[i+1:], func(s Annotation) bool { return s.Entry == a.Entry }) {
				continue
			}
			n++
			added = true
			out = strconv.AppendQuote(append(strconv.AppendQuote(out, a.Entry), ' '), string(a.Value))
			out = append(out, '\n')
		}
		// Who removes some is never told that there are too many.
		switch {
		case added && n > MaxAnnotations:
			return nil, ErrAnnotationCount
		case len(out) > listMax:
			return nil, ErrAnnotationRoom
		}
		return out, nil
	})
}

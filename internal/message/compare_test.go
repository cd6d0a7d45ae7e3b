package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	gomessage "github.com/emersion/go-message"
	gocharset "github.com/emersion/go-message/charset"
	gomail "github.com/emersion/go-message/mail"
)

// A reading is what a reader makes of a message: for parts "1.2 type", "1.2 name", "1.2 size"; for the header of the message "subject",
// "date", "from" ...
type reading map[string]string

var listNames = []string{"From", "Sender", "Reply-To", "To", "Cc"}

// ours is our reading. Bodies has the text of text parts instead of the size of all, as far as it can be compared.
func ours(t *testing.T, b string) reading {
	r := reading{}
	m := parse(t, b)
	var walk func(path string, p *Part)
	walk = func(path string, p *Part) {
		r[path+" type"] = strings.ToLower(p.Type + "/" + p.Subtype)
		name, ok := p.DispParams.Get("filename")
		if !ok {
			name, _ = p.Params.Get("name")
		}
		r[path+" name"] = comparable(name)
		switch {
		case p.Children != nil:
			for i, c := range p.Children {
				if c.Header.Octets+c.Body.Octets == 0 && len(p.Children) == 1 {
					continue // made up
				}
				walk(fmt.Sprintf("%s.%d", path, i+1), c)
			}
		case p.Message != nil:
			walk(path+".msg", p.Message)
		default:
			r[path+" size"] = fmt.Sprint(p.Body.Octets)
			if strings.EqualFold(p.Type, "text") {
				charset, _ := p.Params.Get("charset")
				text, err := io.ReadAll(Decode(strings.NewReader(b[p.Body.Offset:p.Body.End()]), p.Encoding, charset))
				if err != nil {
					t.Error(err)
				}
				r[path+" text"] = comparable(string(text))
			}
		}
	}
	walk("0", m.Root)
	e := m.Root.Envelope()
	r["subject"] = comparable(squeeze(Text(string(e.Subject))))
	if d, ok := Date(string(e.Date)); ok {
		r["date"] = d.Format(time.RFC3339)
	}
	for i, list := range [][]Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc} {
		if f, ok := m.Root.Field(listNames[i]); !ok || len(f.AppendText(nil)) == 0 {
			continue // ours is From then
		}
		var s []string
		for _, a := range list {
			if a.Kind == OneMailbox {
				addr := a.Mailbox
				if a.Host != "" {
					addr += "@" + a.Host
				}
				s = append(s, comparable(squeeze(Text(a.Name)))+" <"+addr+">")
			}
		}
		r[listNames[i]] = strings.Join(s, ", ")
	}
	return r
}

// squeeze makes white space one space: readers differ in what of a folded line's they keep, and it means nothing.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// comparable takes from a text what readers replace octets with that mean nothing, and white space at line ends.
func comparable(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\ufffd", ""), "\r\n", "\n")
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t\r")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// differences are the keys in which two readings differ. Sizes and texts are compared where both have them, and nothing within
// a part that they could not read.
func differences(ours, theirs reading) (d []string) {
	keys := maps.Clone(ours)
	maps.Copy(keys, theirs)
next:
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		a, here := ours[k]
		b, there := theirs[k]
		path, what, _ := strings.Cut(k, " ")
		if a == b || what == "error" || (what == "text" || what == "size") && !(here && there) {
			continue
		}
		for i := range path {
			if _, failed := theirs[path[:i]+" error"]; failed && path[i] == '.' {
				continue next
			}
		}
		d = append(d, k)
	}
	return d
}

// excuse is why a reader may differ from us in some keys of some messages.
type excuse struct{ file, key, why string }

func compare(t *testing.T, file string, ours, theirs reading, excuses []excuse, used map[excuse]bool) {
	t.Helper()
next:
	for _, k := range differences(ours, theirs) {
		for _, e := range excuses {
			if e.file == file && strings.HasPrefix(k, e.key) {
				used[e] = true
				continue next
			}
		}
		t.Errorf("%s: %s\n  ours   %q\n  theirs %q", file, k, ours[k], theirs[k])
	}
}

func unused(t *testing.T, excuses []excuse, used map[excuse]bool) {
	t.Helper()
	for _, e := range excuses {
		if !used[e] {
			t.Errorf("%s: %s: no difference any more: %s", e.file, e.key, e.why)
		}
	}
}

const pythonReader = `
import sys, json, email, email.utils, email.header, email.policy, inspect

def text(s):
    try:
        return str(email.header.make_header(email.header.decode_header(s)))
    except Exception:
        return s

def raw(s):
    b = s.encode('utf-8', 'surrogateescape')
    try:
        return b.decode('utf-8')
    except UnicodeDecodeError:
        return b.decode('latin-1' if b'=?' in b else 'utf-8', 'ignore')  # Header wants characters

def addresses(value):
    try:
        return email.utils.getaddresses([value], strict=False)
    except TypeError:
        return email.utils.getaddresses([value])

def header(m, name):
    for k, v in m._headers:
        if k.lower() == name.lower():
            return raw(str(v)).replace('\r\n', '\n').replace('\n', '')
    return None

def squeeze(s):
    return ' '.join(s.split())

def walk(r, path, m):
    typ = m.get_content_type()
    r[path + ' type'] = typ
    try:
        name = m.get_filename()
    except Exception as e:
        name = 'error: ' + str(e)
    r[path + ' name'] = raw(text(raw(name))).replace('\ufffd', '') if name else ''
    p = m._payload
    if isinstance(p, list) and typ.startswith('multipart/'):
        for i, c in enumerate(p):
            walk(r, '%s.%d' % (path, i + 1), c)
    elif isinstance(p, list) and typ in ('message/rfc822', 'message/global'):
        walk(r, path + '.msg', p[0])
    elif isinstance(p, str):
        r[path + ' size'] = str(len(p.encode('ascii', 'surrogateescape')))
        if typ.startswith('text/'):
            charset = m.get_content_charset() or 'utf-8'
            if charset in ('us-ascii', 'unknown-8bit'): charset = 'utf-8'
            if charset == 'iso-8859-1': charset = 'windows-1252'
            try:
                t = m.get_payload(decode=True).decode(charset, 'ignore')
                r[path + ' text'] = '\n'.join(l.rstrip(' \t\r') for l in t.replace('\r\n', '\n').split('\n')).rstrip('\n')
            except LookupError:
                pass

out = {}
for f in json.load(sys.stdin):
    with open(f, 'rb') as fp:  # not message_from_binary_file, which takes the CRs away
        m = email.message_from_bytes(fp.read(), policy=email.policy.compat32)
    r = {}
    walk(r, '0', m)
    r['subject'] = squeeze(text(header(m, 'subject') or '')).replace('\ufffd', '')
    try:
        d = email.utils.parsedate_to_datetime(header(m, 'date'))
        r['date'] = d.isoformat()
    except Exception:
        pass
    for name in ('From', 'Sender', 'Reply-To', 'To', 'Cc'):
        v = header(m, name)
        if v:
            r[name] = ', '.join('%s <%s>' % (squeeze(text(n)), a) for n, a in addresses(v))
    out[f] = r
json.dump(out, sys.stdout)
`

func TestPythonAgrees(t *testing.T) {
	messages := corpus(t)
	python, err := exec.LookPath("python3")
	if err == nil {
		err = exec.Command(python, "-c", "import email.policy, json").Run()
	}
	if err != nil {
		t.Skip("python3 with its email package is not installed: ", err)
	}
	var paths []string
	for name := range messages {
		paths = append(paths, "../../../shared/corpus/"+name)
	}
	in, _ := json.Marshal(paths)
	cmd := exec.Command(python, "-c", pythonReader)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(in)), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]reading
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	used := map[excuse]bool{}
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		r := ours(t, messages[name])
		theirs := all["../../../shared/corpus/"+name]
		if d, err := time.Parse("2006-01-02T15:04:05Z07:00", theirs["date"]); err == nil {
			theirs["date"] = d.Format(time.RFC3339)
		} else if theirs["date"] != "" {
			theirs["date"] += "Z" // without a zone, which is UTC for us
		}
		compare(t, name, r, theirs, pythonExcuses, used)
	}
	unused(t, pythonExcuses, used)
}

const (
	utf7      = "UTF-7: x/text does not have it, nobody has written it for twenty years"
	lastLine  = "Python takes the last line end of a multipart without an end for a delimiter's; no delimiter follows it"
	sameBound = "one boundary within itself: Python takes the delimiters for those of the outer one, we for those of the inner one, as does Dovecot"
	rawWord   = "an encoded word with octets that are not ASCII: we take them for octets of its charset"
)

var pythonExcuses = []excuse{
	{"legacy/001.eml", "", utf7},
	{"legacy/005.eml", "", utf7},
	{"legacy/034.eml", "0 text", utf7},
	{"legacy/026.eml", "0.2 text", "uuencode, which is no encoding of RFC 2045"},
	{"malformed/000.eml", "0.", "--:foo, a delimiter, is a field for Python"},
	{"malformed/001.eml", "0.2 size", lastLine},
	{"malformed/006.eml", "0.1.1 size", lastLine},
	{"malformed/008.eml", "0.2 size", lastLine},
	{"malformed/009.eml", "0.2 size", lastLine},
	{"malformed/011.eml", "0.2 size", lastLine},
	{"malformed/012.eml", "0.2.msg size", lastLine},
	{"malformed/016.eml", "0.2 size", lastLine},
	{"thirdparty/005.eml", "0.5 size", lastLine},
	{"malformed/003.eml", "0.", sameBound},
	{"malformed/013.eml", "0.", sameBound},
	{"malformed/005.eml", "0.1.1 type", "a--, a boundary: Python takes --a---- for its end, we for a delimiter of the inner multipart, whose boundary it is"},
	{"malformed/017.eml", "0", "no semicolon before the boundary"},
	{"malformed/019.eml", "", "white space before a colon (RFC 5322 section 4.5.8) ends the header for Python"},
	{"thirdparty/003.eml", "0.4 text", "quoted-printable with white space behind it is no encoding for Python"},
	{"thirdparty/012.eml", "0.", "a folded boundary, which has a space when unfolded"},
}

// theirs is go-message's reading.
func goReading(b string) reading {
	r := reading{}
	root, err := gomessage.Read(strings.NewReader(b))
	if err != nil && !gomessage.IsUnknownCharset(err) && !gomessage.IsUnknownEncoding(err) {
		return nil
	}
	var walk func(path string, e *gomessage.Entity)
	walk = func(path string, e *gomessage.Entity) {
		typ, _, err := e.Header.ContentType()
		if err != nil {
			typ = "text/plain"
		}
		r[path+" type"] = typ
		name, _ := (&gomail.AttachmentHeader{Header: e.Header}).Filename()
		r[path+" name"] = comparable(name)
		if mr := e.MultipartReader(); mr != nil {
			for i := 1; ; i++ {
				c, err := mr.NextPart()
				if err != nil && !gomessage.IsUnknownCharset(err) && !gomessage.IsUnknownEncoding(err) {
					if !errors.Is(err, io.EOF) {
						r[path+" error"] = err.Error()
					}
					return
				}
				walk(fmt.Sprintf("%s.%d", path, i), c)
			}
		}
		if strings.HasPrefix(typ, "text/") {
			if text, err := io.ReadAll(e.Body); err == nil {
				r[path+" text"] = comparable(string(text))
			}
		}
		if strings.HasPrefix(typ, "message/") && (strings.HasSuffix(typ, "/rfc822") || strings.HasSuffix(typ, "/global")) {
			if m, err := gomessage.Read(e.Body); err == nil || gomessage.IsUnknownCharset(err) {
				walk(path+".msg", m)
			}
		}
	}
	walk("0", root)
	h := gomail.Header{Header: root.Header}
	subject, _ := h.Subject()
	r["subject"] = comparable(squeeze(subject))
	if d, err := h.Date(); err == nil && !d.IsZero() {
		r["date"] = d.Format(time.RFC3339)
	}
	for _, name := range listNames {
		list, err := h.AddressList(name)
		if err != nil {
			continue
		}
		var s []string
		for _, a := range list {
			s = append(s, squeeze(a.Name)+" <"+a.Address+">")
		}
		if s != nil {
			r[name] = strings.Join(s, ", ")
		}
	}
	return r
}

func TestGoMessageAgrees(t *testing.T) {
	messages := corpus(t)
	gomessage.CharsetReader = gocharset.Reader
	used := map[excuse]bool{}
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		theirs := goReading(messages[name])
		if theirs == nil {
			t.Logf("%s: go-message refuses it", name)
			continue
		}
		r := ours(t, messages[name])
		for k := range r { // what it refuses to read is no difference
			if _, ok := theirs[k]; !ok && (slices.Contains(listNames, k) || k == "date") {
				delete(r, k)
			}
		}
		compare(t, name, r, theirs, goExcuses, used)
	}
	unused(t, goExcuses, used)
}

const digest = "go-message does not know that parts of a multipart/digest are messages"

var goExcuses = []excuse{
	{"legacy/009.eml", "subject", rawWord},
	{"legacy/015.eml", "subject", rawWord},
	{"legacy/016.eml", "subject", rawWord},
	{"legacy/018.eml", "subject", rawWord},
	{"legacy/023.eml", "subject", rawWord},
	{"legacy/024.eml", "subject", rawWord},
	{"legacy/025.eml", "subject", rawWord},
	{"legacy/026.eml", "subject", rawWord},
	{"legacy/050.eml", "subject", rawWord},
	{"legacy/051.eml", "subject", rawWord},
	{"legacy/045.eml", "0.2 name", "RFC 2231 in quotes"},
	{"malformed/017.eml", "0 type", "no semicolon before the boundary"},
	{"malformed/022.eml", "0.2.msg", "a message without a header is an error for go-message"},
	{"thirdparty/015.eml", "0.4.msg", "the same"},
	{"rfc/001.eml", "0.3 type", "a parameter without a semicolon before it"},
	{"rfc/004.eml", "0.2.", digest},
	{"thirdparty/007.eml", "0.", digest},
	{"rfc/008.eml", "0.2.msg", "a message in base64, which RFC 2046 section 5.2.1 forbids: we do not look into it"},
	{"thirdparty/001.eml", "0.", "one line end without CR before a delimiter: go-message wants all like the first"},
	{"thirdparty/010.eml", "0 type", "the same, in a continuation line"},
}

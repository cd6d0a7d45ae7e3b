package maildir

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// ErrSpecialUse is not a special use.
var ErrSpecialUse = errors.New("maildir: not a special use")

// specialUse gives the names by which clients know folders of a special use
// (RFC 6154 section 2, RFC 8457), the usual first. It is not ok for what is no
// special use.
func specialUse(use string) (names []string, ok bool) {
	switch use {
	case `\Archive`:
		names = []string{"Archive", "Archives"}
	case `\Drafts`:
		names = []string{"Drafts", "Draft"}
	case `\Junk`:
		names = []string{"Junk", "Spam", "Junk E-mail", "Junk Email", "Junk Mail", "Bulk Mail"}
	case `\Sent`:
		names = []string{"Sent", "Sent Items", "Sent Messages", "Sent Mail", "Sent-mail"}
	case `\Trash`:
		names = []string{"Trash", "Deleted Items", "Deleted Messages", "Deleted"}
	case `\All`, `\Flagged`, `\Important`:
	default:
		return nil, false
	}
	return names, true
}

// IsSpecialUse reports whether it is the name of a special use.
func IsSpecialUse(use string) bool { _, ok := specialUse(use); return ok }

// SpecialUse gives the special uses of folders: name to uses. What the file
// specialuse says holds; a use that it does not give to a folder that is there
// belongs to the first folder with a usual name.
//
// A line of the file is a use and the name of a folder, in UTF-8:
//
//	\Sent Gesendete Objekte
func (r *Root) SpecialUse(folders []Folder) (map[string][]string, error) {
	text, _, err := r.readList(r.dir, specialUseFile)
	if err != nil {
		return nil, err
	}
	there := make(map[string]string) // by the name in lower case
	for _, f := range folders {
		there[f.Name] = f.Name
		if lower := strings.ToLower(f.Name); there[lower] == "" {
			there[lower] = f.Name
		}
	}
	uses := make(map[string][]string)
	given := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		use, name, ok := specialUseLine(line)
		if ok && !given[use] && there[name] == name {
			uses[name] = append(uses[name], use)
			given[use] = true
		}
	}
	for _, use := range []string{`\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`} {
		if given[use] {
			continue
		}
		names, _ := specialUse(use)
		for _, name := range names {
			if found := there[strings.ToLower(name)]; found != "" {
				uses[found] = append(uses[found], use)
				break
			}
		}
	}
	return uses, nil
}

func specialUseLine(line string) (use, name string, ok bool) {
	use, name, _ = strings.Cut(strings.TrimRight(line, "\r\n"), " ")
	_, ok = specialUse(use)
	return use, strings.TrimSpace(name), ok && !strings.HasPrefix(line, "#")
}

// SetSpecialUse writes into the file specialuse that a folder has a use, and
// no other folder has it.
func (r *Root) SetSpecialUse(ctx context.Context, use, name string) error {
	return r.setSpecialUses(ctx, name, []string{use}, false)
}

// SetSpecialUses writes into the file that a folder has these uses, which no
// other folder has then, and no others.
func (r *Root) SetSpecialUses(ctx context.Context, name string, uses []string) error {
	return r.setSpecialUses(ctx, name, uses, true)
}

func (r *Root) setSpecialUses(ctx context.Context, name string, uses []string, noOther bool) error {
	for _, use := range uses {
		if _, ok := specialUse(use); !ok {
			return ErrSpecialUse
		}
	}
	if _, err := FolderDir(name); err != nil {
		return err
	}
	return r.editList(ctx, r.dir, specialUseFile, func(text []byte, _ bool) ([]byte, error) {
		var out []byte
		for line := range strings.Lines(string(text)) {
			if u, of, ok := specialUseLine(line); !ok || !slices.Contains(uses, u) && !(noOther && of == name) {
				out = append(append(out, strings.TrimRight(line, "\r\n")...), '\n')
			}
		}
		for _, use := range uses {
			out = append(out, use+" "+name+"\n"...)
		}
		return out, nil
	})
}

package alias

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// Name is how other programs speak of a command or a file: "command-" or "file-", and 16 characters that follow from its text. Who is told a name finds the
// text in the file again, or finds that it is not there any more; a text itself goes from no program to another. Other kinds have the name "".
func (t Target) Name() string {
	if t.Kind != Pipe && t.Kind != File {
		return ""
	}
	kind := "command"
	if t.Kind == File {
		kind = "file"
	}
	sum := sha256.Sum256([]byte(kind + "\x00" + t.Text))
	return kind + "-" + strings.ToLower(base32.HexEncoding.EncodeToString(sum[:10]))
}

// Named finds the target of that name among those of an entry.
func Named(list []Target, name string) (Target, bool) {
	for _, t := range list {
		if name != "" && t.Name() == name {
			return t, true
		}
	}
	return Target{}, false
}

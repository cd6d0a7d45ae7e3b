package alias

import (
	"strings"
	"testing"
)

func TestListKeys(t *testing.T) {
	l, p, err := ParseList("l", "# ours\n#: id Announce.Example.org News, and \"more\"\n#:post members\n#: bounces announce-bounces@example.org\n\n#: unsubscribe announce-unsubscribe@example.org\n#: unsubscribe https://lists.example.org/u?m=%t\na@example.org\n#: post /after/the/first\n")
	if err != nil || len(p) != 0 {
		t.Fatal(err, p)
	}
	if l.ID != "announce.example.org" || l.Name != `News, and "more"` || l.Post != Members || l.Bounces.String() != "announce-bounces@example.org" ||
		l.Unsubscribe.String() != "announce-unsubscribe@example.org" || l.UnsubscribeURL != "https://lists.example.org/u?m=%t" || len(l.Targets) != 1 {
		t.Errorf("%+v", l)
	}
	for text, want := range map[string]string{
		"#: id nodots":                     "l:1:1: not an id of a list",
		"#: id a.b\n#: post nobody":        "l:2:1: who may post is anyone, members, or the path",
		"#: id a.b\n#: bounces x":          "l:2:1: ",
		"#: id a.b\n#: bounce x@y.z":       `l:2:1: unknown key "bounce"`,
		"#: id":                            "l:1:1: a key without a value",
		"#: id a.b \x1b[2J":                "l:1:1: a control character",
		"#: post members":                  "l:1:1: a mailing list needs an id",
		"#: id a.b\n#: unsubscribe http:x": "l:2:1: ",
	} {
		l, p, err := ParseList("l", text+"\na@example.org\n")
		if err != nil || len(p) == 0 || !strings.HasPrefix(p[0].Error(), want) || len(l.Targets) != 1 {
			t.Errorf("%q: %v %v", text, p, err)
		}
	}
}

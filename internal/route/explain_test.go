package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postamt/internal/addr"
	"postamt/internal/alias"
)

func tree(w *Tables, m addr.Mailbox) string {
	var b strings.Builder
	w.Explain(m, limits, func(s Step) bool {
		fmt.Fprintf(&b, "%s%s %v", strings.Repeat(" ", s.Depth), s.Addr, s.Kind)
		if s.List {
			b.WriteString(" list")
		}
		if s.Again {
			b.WriteString(" again")
		}
		if s.Reply != nil {
			b.WriteString(" " + s.Reply.Enhanced.String())
		}
		fmt.Fprintf(&b, " %v %v\n", s.Source, s.Target.Pos)
		return true
	})
	return b.String()
}

func TestExplain(t *testing.T) {
	w := world(t, `staff: alice, all, :include:/list
all: bob, nobody, staff, "|/bin/cmd", x@remote.example
gone: :fail: moved
quiet: /dev/null`, "sales@virt.example: staff", "")
	w.Lists = files{"/list": "alice\nall\n"}
	for addr, want := range map[string]string{
		"sales@virt.example": `sales@virt.example alias virtual:1 
 staff@host.example alias aliases:1 virtual:1:21
  alice@host.example mailbox users:1 aliases:1:8
  all@host.example alias aliases:2 aliases:1:15
   bob@host.example mailbox users:2 aliases:2:6
   nobody@host.example refuse 5.1.1 local_domains aliases:2:11
   staff@host.example refuse 5.4.6 aliases:2:19 aliases:2:19
   all@host.example command aliases:2:26 aliases:2:26
   x@remote.example remote mx aliases:2:39
  staff@host.example alias list aliases:1:20 aliases:1:20
   alice@host.example mailbox users:1 /list:1:1
   all@host.example alias again aliases:2 /list:2:1
`,
		"gone@host.example":  "gone@host.example alias aliases:3 \n gone@host.example refuse 5.1.1 aliases:3:7 aliases:3:7\n",
		"quiet@host.example": "quiet@host.example alias aliases:4 \n  discard aliases:4:8 aliases:4:8\n",
		"alice@host.example": "alice@host.example mailbox users:1 \n",
		"x@host.example":     "x@host.example refuse 5.1.1 local_domains \n",
	} {
		if got := tree(w, mbox(t, addr)); got != want {
			t.Errorf("%s:\n%s", addr, got)
		}
	}
	n := 0
	w.Explain(mbox(t, "staff@host.example"), limits, func(Step) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("%d steps were told to who had enough of them", n)
	}
}

func TestSources(t *testing.T) {
	w := world(t, `staff: alice, all
all: bob, :include:/list, "|/bin/cmd a"
bob: \bob, b@remote.example
Root: all
alice+x: bob@localhost
"john doe": vera@virt.example
unread: :include:/missing`, `sales@virt.example: staff
@old.example: @virt.example
vera@old.example: alice
root@host.example: alice
@virt.example: carol@remote.example`, "")
	w.Lists = files{"/list": "list@remote.example\nvera@virt.example"}
	for target, want := range map[string]string{
		"alice": "sales@virt.example 1 staff 0 vera@old.example 0 root@host.example 0",
		"bob":   "sales@virt.example 2 staff 1 all 0 bob 0 alice+x 1",
		// By way of the alias, too.
		"staff@host.example":   "sales@virt.example 0",
		"b@remote.example":     "sales@virt.example 3 staff 2 all 1 bob 0 alice+x 1",
		"list@remote.example":  "sales@virt.example 3 staff 2 all 1",
		"|/bin/cmd a":          "sales@virt.example 2 staff 1 all 0",
		":include:/list":       "sales@virt.example 2 staff 1 all 0",
		"vera@virt.example":    "sales@virt.example 3 staff 2 all 1 john doe 0",
		"carol@remote.example": "@virt.example 0 @old.example 1",
		"other@virt.example":   "@old.example 0",
		"nobody@far.example":   "",
	} {
		x, err := alias.ParseTarget(target)
		if err != nil {
			t.Fatal(target, err)
		}
		var got, wanted []string
		w.Sources(x, limits, func(s Source) bool {
			got = append(got, fmt.Sprint(s.Key, " ", len(s.Via)-1))
			return true
		})
		for f := strings.Fields(strings.ReplaceAll(want, "john doe", "john_doe")); len(f) > 0; f = f[2:] {
			wanted = append(wanted, strings.ReplaceAll(f[0], "_", " ")+" "+f[1])
		}
		slices.Sort(got)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Errorf("%s: %q, not %q", target, got, wanted)
		}
	}
}

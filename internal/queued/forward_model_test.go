package queued

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Users who send their mail to each other, to aliases that they are members of, and to others, at random: whoever is to get a message by any way gets it, nobody else
// does, and where the ways go in circles and lead nowhere, somebody keeps it.
func TestForwardModel(t *testing.T) {
	const users, aliases = 5, 3
	user := func(i int) string { return fmt.Sprintf("u%d@example.org", i) }
	node := rapid.Custom(func(r *rapid.T) string {
		switch k := rapid.IntRange(0, 9).Draw(r, "kind"); {
		case k < 6:
			return user(rapid.IntRange(0, users-1).Draw(r, "user"))
		case k < 8:
			return fmt.Sprintf("a%d@example.org", rapid.IntRange(0, aliases-1).Draw(r, "alias"))
		default:
			return fmt.Sprintf("x%d@elsewhere.example", rapid.IntRange(0, 1).Draw(r, "other"))
		}
	})
	o := newOffice(t)
	rapid.Check(t, func(r *rapid.T) {
		leads := map[string][]string{} // what a user's file or an alias says; a user without a file keeps all
		says := map[string][]string{}
		for i := range users {
			if !rapid.Bool().Draw(r, "file") {
				continue
			}
			to := rapid.SliceOfN(node, 0, 3).Draw(r, "forwards")
			if keeps := rapid.IntRange(0, 3).Draw(r, "keeps") == 0; keeps || len(to) == 0 {
				to = append(to, user(i))
			}
			leads[user(i)] = to
			local, _, _ := strings.Cut(user(i), "@")
			for _, a := range to {
				line := "address:" + a
				if a == user(i) {
					line = "mailbox"
				}
				says[local] = append(says[local], line)
			}
		}
		var text strings.Builder
		for i := range aliases {
			key := fmt.Sprintf("a%d", i)
			var to []string
			for _, a := range rapid.SliceOfN(node, 1, 3).Draw(r, "members") {
				if n, ok := strings.CutPrefix(a, "a"); !ok || n[0]-'0' > byte(i) { // aliases in circles are errors, of their own
					to = append(to, a)
				}
			}
			if to == nil {
				to = []string{user(i)}
			}
			leads[key+"@example.org"] = to
			fmt.Fprintf(&text, "%s: %s\n", key, strings.Join(to, ", "))
		}
		rcpts := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(node, 1, 3).Draw(r, "recipients"))))

		want, circle := map[string]bool{}, map[string]bool{}
		seen := map[string]bool{}
		var walk func(a string, path []string)
		walk = func(a string, path []string) {
			to, ok := leads[a]
			if !ok {
				want[a] = true
				return
			}
			if i := slices.Index(path, a); i >= 0 {
				for _, in := range path[i:] {
					circle[in] = true
				}
				return
			}
			seen[a] = true
			for _, b := range to {
				if b == a {
					want[a] = true
				} else {
					walk(b, append(slices.Clone(path), a))
				}
			}
		}
		for _, a := range rcpts {
			walk(a, nil)
		}

		if len(o.queued()) > 0 { // of one that has failed
			o = newOffice(t)
		}
		o.tables.Users = people{"u0", "u1", "u2", "u3", "u4"}
		o.aliases(text.String())
		o.forwardFiles(says)
		o.send(sender, rcpts...)
		had := map[string]bool{}
		for to := range got(o.courier.took()) {
			a, _, _ := strings.Cut(to, " ")
			had[a] = true
		}
		story := fmt.Sprintf("files %v\naliases %s\nto %v: %v, want %v, in circles %v", leads, text.String(), rcpts, slices.Sorted(maps.Keys(had)), slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(circle)))
		for a := range want {
			if !had[a] {
				r.Fatalf("%s has not got it\n%s", a, story)
			}
		}
		for a := range had {
			if !want[a] && !circle[a] {
				r.Fatalf("%s has got it\n%s", a, story)
			}
		}
		if len(had) == 0 {
			r.Fatalf("nobody has got it\n%s", story)
		}
		if left := o.queued(); len(left) != 0 {
			r.Fatalf("%v are left\n%s", left, story)
		}
	})
}

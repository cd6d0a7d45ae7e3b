package alias

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What each format becomes, and what is told of it. FORMAT.want is written anew with -update.
func TestConvert(t *testing.T) {
	for _, format := range Formats() {
		in := "testdata/convert/" + format
		text, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		got, found, err := Convert(format, format, string(text))
		if err != nil {
			t.Fatal(err)
		}
		got += "-- told --\n"
		for _, p := range found {
			got += p.Error() + "\n"
		}
		if *update {
			if err := os.WriteFile(in+".want", []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(in + ".want")
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", format, got, want)
		}
	}
}

var update = flag.Bool("update", false, "write what is wanted anew")

// FuzzConvert: whatever the text, the result is an alias file without errors, and has every line.
func FuzzConvert(f *testing.F) {
	samples, err := filepath.Glob("testdata/convert/*")
	if err != nil || len(samples) == 0 {
		f.Fatal(err, len(samples))
	}
	for _, path := range samples {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for i := range Formats() {
			f.Add(byte(i), string(b))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, text string) {
		format := Formats()[int(which)%len(Formats())]
		out, found, err := Convert(format, "f", text)
		if err != nil {
			return
		}
		table, problems, err := Parse("f", out)
		if err != nil {
			t.Fatalf("%s of %q is %q: %v", format, text, out, err)
		}
		for _, p := range problems {
			if !p.Warning {
				t.Fatalf("%s of %q is %q: %v", format, text, out, p)
			}
		}
		for _, p := range found {
			if p.Pos.Line < 1 || int(p.Pos.Line) > strings.Count(text, "\n")+1 {
				t.Fatalf("%s of %q: %v", format, text, p)
			}
		}
		if table.Len() == 0 && len(found) == 0 && strings.Trim(text, " \t\r\n") != "" && !strings.Contains(text, "#") {
			t.Fatalf("%s of %q: nothing, and nothing is told", format, text)
		}
		// Each entry by itself means what it means among the others.
		c := conversion{file: "f", format: format, seen: make(map[string]held)}
		c.lines(strings.ReplaceAll(text, "\r\n", "\n"))
		if len(c.seen) != table.Len() {
			t.Fatalf("%s of %q is %q: %d entries, not %d", format, text, out, table.Len(), len(c.seen))
		}
		for e := range table.Entries() {
			if want := c.seen[e.Key()]; !alike(e.Targets(), want.targets) {
				t.Fatalf("%s of %q is %q: %s is %v, not %v", format, text, out, e.Key(), e.Targets(), want.targets)
			}
		}
	})
}

func TestConvertWhatIsNoTable(t *testing.T) {
	if _, _, err := Convert("qmail", "f", ""); err != ErrUnknownFormat {
		t.Error(err)
	}
	if _, _, err := Convert("exim", "f", "a: b\x00"); err == nil {
		t.Error("NUL")
	}
}

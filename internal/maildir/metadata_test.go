package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"postamt/internal/durable"
)

func mustMetadata(t *testing.T, r *Root, name string) map[string]string {
	t.Helper()
	list, err := r.Metadata(name)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string)
	for _, a := range list {
		m[a.Entry] = string(a.Value)
	}
	if len(m) != len(list) {
		t.Fatalf("an entry twice in %q", list)
	}
	return m
}

// Whatever octets a value has, it comes back, and no other with it.
func TestMetadataOctets(t *testing.T) {
	r, _ := newRoot(t)
	want := map[string]string{}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	values := [][]byte{{}, []byte("plain"), []byte("a\nb\r\n\"/private/x\" \"y\"\n"), []byte("\\"), []byte("`'\""), all, bytes.Repeat([]byte{0}, MaxAnnotation), []byte("\xff\xfe\ufffd\u2028ü")}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		v := make([]byte, random.IntN(40))
		for i := range v {
			v[i] = byte(random.IntN(256))
		}
		values = append(values, v)
	}
	for i, v := range values {
		entry := fmt.Sprintf(`/private/a "%d\`, i)
		if err := r.SetMetadata(t.Context(), "INBOX", []Annotation{{entry, v}}); err != nil {
			t.Fatal(err)
		}
		want[entry] = string(v)
	}
	got := mustMetadata(t, r, "INBOX")
	for e, v := range want {
		if g, ok := got[e]; !ok || g != v {
			t.Errorf("%s: %q is %q", e, v, g)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d of %d", len(got), len(want))
	}
}

func TestMetadataOfFolders(t *testing.T) {
	r, _ := newRoot(t)
	set := func(name, value string) {
		t.Helper()
		if err := r.SetMetadata(t.Context(), name, []Annotation{{"/private/comment", []byte(value)}}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(name string) string { t.Helper(); return mustMetadata(t, r, name)["/private/comment"] }
	if err := r.SetMetadata(t.Context(), "a", nil); !errors.Is(err, ErrNoFolder) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := r.Metadata("../x"); !errors.Is(err, ErrFolder) {
		t.Errorf("no name: %v", err)
	}
	for _, err := range []error{r.Create("a"), r.Create("a.b")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	set("", "server")
	set("inbox", "in")
	set("a", "of a")
	set("a.b", "of b")
	if get("") != "server" || get("INBOX") != "in" || get("a") != "of a" || get("a.b") != "of b" {
		t.Errorf("%q %q %q %q", get(""), get("INBOX"), get("a"), get("a.b"))
	}
	// RFC 5464 section 4.1: they follow a rename, are copied from INBOX, and go with the folder.
	if err := errors.Join(r.Rename("a", "c"), r.Rename("INBOX", "old")); err != nil {
		t.Fatal(err)
	}
	if get("c") != "of a" || get("c.b") != "of b" || get("old") != "in" || get("INBOX") != "in" {
		t.Errorf("%q %q %q %q", get("c"), get("c.b"), get("old"), get("INBOX"))
	}
	if err := errors.Join(r.Delete("c"), r.Create("c")); err != nil {
		t.Fatal(err)
	}
	if get("c") != "" {
		t.Errorf("a new folder has %q", get("c"))
	}
}

func TestMetadataLimits(t *testing.T) {
	r, _ := newRoot(t)
	one := func(value []byte) error {
		return r.SetMetadata(t.Context(), "", []Annotation{{"/private/a", []byte("x")}, {"/private/b", value}})
	}
	if err := one(make([]byte, MaxAnnotation+1)); !errors.Is(err, ErrAnnotationSize) {
		t.Error(err)
	}
	var many []Annotation
	for i := range MaxAnnotations + 1 {
		many = append(many, Annotation{fmt.Sprint("/private/", i), []byte("x")})
	}
	if err := r.SetMetadata(t.Context(), "", many); !errors.Is(err, ErrAnnotationCount) {
		t.Error(err)
	}
	var large []Annotation
	for i := range 9 { // each octet takes four
		large = append(large, Annotation{fmt.Sprint("/private/", i), bytes.Repeat([]byte{1}, MaxAnnotation)})
	}
	if err := r.SetMetadata(t.Context(), "", large); !errors.Is(err, ErrAnnotationRoom) {
		t.Error(err)
	}
	if got := mustMetadata(t, r, ""); len(got) > 0 {
		t.Errorf("%d of some that were refused", len(got))
	}
	if err := r.SetMetadata(t.Context(), "", many[1:]); err != nil {
		t.Fatal(err)
	}
	if err := one(nil); !errors.Is(err, ErrAnnotationCount) {
		t.Error(err)
	}
	if err := r.SetMetadata(t.Context(), "", []Annotation{{"/private/1", nil}, {"/private/a", []byte("x")}, {"/private/b", nil}}); err != nil {
		t.Error(err)
	}
}

// What is no annotation stays, and of two lines for an entry the first holds until it is set.
func TestMetadataForeign(t *testing.T) {
	r, path := newRoot(t)
	file := filepath.Join(path, metadataFile)
	text := "# mine\n\"/private/a\" \"1\"\r\n\"/private/a\" \"2\"\n\"/private/b\"\n\"/private/c\" \"3\" x\n'/private/d' 'x'\n\"/private/e\"\t\"4\""
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(mustMetadata(t, r, "INBOX")); got != "map[/private/a:1 /private/e:4]" {
		t.Error(got)
	}
	if err := r.SetMetadata(t.Context(), "INBOX", []Annotation{{"/private/a", []byte("x")}, {"/private/a", []byte("5")}}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(mustMetadata(t, r, "INBOX")); got != "map[/private/a:5 /private/e:4]" {
		t.Error(got)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for _, line := range []string{"# mine", `"/private/b"`, `"/private/c" "3" x`, `'/private/d' 'x'`} {
		if !slices.Contains(lines, line) {
			t.Errorf("%q is gone from %q", line, lines)
		}
	}
}

// Many may set annotations at once, in one process or several: none is lost.
func TestMetadataTogether(t *testing.T) {
	_, path := newRoot(t)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			dir, err := durable.OpenDir(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer dir.Close()
			for i := range 10 {
				if err := OpenRoot(dir, nil).SetMetadata(t.Context(), "INBOX", []Annotation{{fmt.Sprintf("/private/%d/%d", w, i), []byte("x")}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	r, err := durable.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := mustMetadata(t, OpenRoot(r, nil), "INBOX"); len(got) != 40 {
		t.Errorf("%d of 40", len(got))
	}
}

// FuzzAnnotation: a line that is one is written and read again as the same.
func FuzzAnnotation(f *testing.F) {
	for _, s := range []string{`"/private/a" "x"`, `"\x00" "\u2028"`, "`a` `b`", `"a" "b`, `'a' 'b'`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		a, ok := annotation(line)
		if !ok {
			return
		}
		again, ok := annotation(strconv.Quote(a.Entry) + " " + strconv.Quote(string(a.Value)) + "\n")
		if !ok || again.Entry != a.Entry || !bytes.Equal(again.Value, a.Value) {
			t.Errorf("%q is %q", a, again)
		}
	})
}

package tables

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"postamt/internal/config"
)

// What a configuration names must be there, also by the name that its key has by default: who is told of a user that he is not there bounces his mail.
func TestConfigured(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string][]string{
		"# x\n": {"aliases", "users"}, "users users\n": {"aliases"}, "users " + dir + "/users\naliases aliases\n": nil, "users others\n": {"aliases", "users"},
	} {
		if err := os.WriteFile(dir+"/postamt.conf", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(dir + "/postamt.conf")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, path := range Configured(c).Optional {
			got = append(got, filepath.Base(path))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q may be missing, not %q", text, got, want)
		}
	}
}

package keyd

import (
	"os"
	"path/filepath"
	"testing"

	"postamt/internal/config"
)

// tls_keys auto: root asks keyd; others do when the system keeps the key from them (test/tls), and not when it is missing.
func TestElsewhere(t *testing.T) {
	dir := t.TempDir()
	readable, missing := filepath.Join(dir, "key"), filepath.Join(dir, "none")
	if err := os.WriteFile(readable, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		keys string
		uid  int
		key  string
		want bool
	}{
		{"auto", 0, readable, true}, {"auto", 1000, readable, false}, {"auto", 1000, missing, false},
		{"self", 0, readable, false}, {"keyd", 1000, readable, true},
	} {
		if got := elsewhere(&config.Config{TLSKeys: x.keys, TLSKey: []string{x.key}}, x.uid); got != x.want {
			t.Errorf("%s as uid %d with %s: %v", x.keys, x.uid, x.key, got)
		}
	}
}

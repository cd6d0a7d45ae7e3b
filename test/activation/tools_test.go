package activation

import (
	"os/exec"
	"testing"
)

// tool finds a program; a test is skipped that has none.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is missing (Debian package %s)", name, pkg)
	}
	return path
}

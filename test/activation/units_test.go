package activation

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"postamt/test/peers"
)

// units is a copy of etc/systemd in which the programs are those of bin/.
func units(t *testing.T) (services, sockets []string) {
	t.Helper()
	root, err := peers.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	found, _ := filepath.Glob(filepath.Join(root, "etc", "systemd", "postamt-*"))
	for _, from := range found {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.Base(from))
		if err := os.WriteFile(to, []byte(strings.ReplaceAll(string(b), "=/usr/sbin/", "="+bin+"/")), 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(to, ".service") {
			services = append(services, to)
		} else {
			sockets = append(sockets, to)
		}
	}
	return services, sockets
}

// TestUnits: systemd finds nothing to say about the units; each service is as little exposed as its comment says, and below 2.0.
func TestUnits(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "systemd")
	services, sockets := units(t)
	if len(services) != 7 || len(sockets) != 12 {
		t.Errorf("%d services, %d sockets", len(services), len(sockets))
	}
	c := exec.Command(analyze, append([]string{"verify", "--man=no", "--recursive-errors=yes"}, append(services, sockets...)...)...)
	// Units of the machine are none of ours.
	c.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+filepath.Dir(services[0])+":")
	out, err := c.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "postamt") {
			t.Error(strings.TrimSpace(line))
		}
	}
	if err != nil && t.Failed() {
		t.Errorf("verify: %v", err)
	}
	stated := regexp.MustCompile(`systemd-analyze security: ([0-9]\.[0-9])\.`)
	for _, path := range services {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := stated.FindSubmatch(b)
		if m == nil {
			t.Errorf("%s does not say how exposed it is", filepath.Base(path))
			continue
		}
		limit, _ := strconv.Atoi(strings.Replace(string(m[1]), ".", "", 1))
		if limit >= 20 {
			t.Errorf("%s says %s", filepath.Base(path), m[1])
		}
		out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+strconv.Itoa(limit), path).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more exposed than %s: %v\n%s", filepath.Base(path), m[1], err, out)
		}
	}
	for _, path := range sockets {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"\nFileDescriptorName=", "\nAccept=no\n"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s has no %q", filepath.Base(path), want)
			}
		}
	}
}

package durable

import (
	"os"
	"testing"
)

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0": true, "5.7.19": false, "5.10": true, "6.1.0-13-amd64": true, "4.19.0": false, "6": true, "": false, "5.8-rc1": true, "99999999999999999.1": true,
	} {
		if got := atLeast(release, 5, 8); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

func TestKeepsNames_DoubtIsNo(t *testing.T) {
	d, err := os.Open("/proc")
	if err != nil {
		t.Skip(err)
	}
	defer d.Close()
	if KeepsNames(d) {
		t.Error("/proc")
	}
}

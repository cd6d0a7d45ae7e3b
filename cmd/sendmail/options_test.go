package main

import (
	"slices"
	"strings"
	"testing"
)

// FuzzOptions: no command line makes parse do anything but return, what is behind "--" is not looked at, and no operand before it begins with "-".
func FuzzOptions(f *testing.F) {
	for _, s := range []string{"-ti\x00oem", "-fX\x00-i\x00-odi\x00-t\x00-f\x00root", "-t\x00--\x00-oQ/tmp", "-q30m\x00-bd", "-OErrorMode=\x00a", "-oe", "-b", "-\x00-", "-N\x00never\x00x\x00-y"} {
		f.Add(s, "-x\x00a")
	}
	f.Fuzz(func(t *testing.T, s, behind string) {
		args := strings.Split(s, "\x00")
		if o, err := parse("sendmail", args); err == nil && !slices.Contains(args, "--") {
			for _, a := range o.operands {
				if len(a) > 1 && a[0] == '-' {
					t.Fatalf("%q: operand %q", args, a)
				}
			}
		}
		operands := append(strings.Split(behind, "\x00"), "last")
		o, err := parse("sendmail", append([]string{"-i", "--"}, operands...))
		if err != nil || !slices.Equal(o.operands, operands) || !o.ignoreDots || o.mode != deliver {
			t.Fatalf("%q: %+v, %v", operands, o, err)
		}
	})
}

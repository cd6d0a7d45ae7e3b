package access

import (
	"testing"

	"postamt/internal/maildir"
)

func TestPlace(t *testing.T) {
	for _, p := range []Place{{}, {Path: "/home/bob/Maildir"}, {"/a b\n", maildir.Quota{Bytes: 1 << 40}}, {"/x", maildir.Quota{Bytes: 5, Messages: 7}}} {
		if got, err := parsePlace(p.encode()); err != nil || got != p {
			t.Errorf("%+v is %+v, %v", p, got, err)
		}
	}
	for _, value := range []string{"", "/x", "/x\x00", "/x\x001\x00", "/x\x001\x002\x003", "/x\x00a\x001"} {
		if p, err := parsePlace(value); err == nil {
			t.Errorf("%q is %+v", value, p)
		}
	}
}

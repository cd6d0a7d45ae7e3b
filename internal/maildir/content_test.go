package maildir

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"postamt/internal/durable"
)

// Text changes CRLF and nothing else, wherever the reader cuts.
func TestTextOfAReader(t *testing.T) {
	for _, c := range []struct {
		in, out string
		wire    int64
	}{
		{"", "", 0},
		{"a\r\nb\r\n", "a\nb\n", 6},
		{"a\nb\r\n", "a\nb\n", 6},
		{"a\r\r\nb\r", "a\r\nb\r", 5},
		{"\r\n\n\r", "\n\n\r", 5},
		{strings.Repeat("0123456789\r\n", 20_000), strings.Repeat("0123456789\n", 20_000), 240_000},
	} {
		in := strings.NewReader(c.in)
		for what, r := range map[string]func() (int64, int64, string, error){
			"whole": func() (int64, int64, string, error) {
				var b bytes.Buffer
				s, w, err := Text(&b, in)
				return s, w, b.String(), err
			},
			"octets": func() (int64, int64, string, error) {
				var b bytes.Buffer
				s, w, err := Text(&b, iotest.OneByteReader(in))
				return s, w, b.String(), err
			},
		} {
			in.Reset(c.in)
			size, wire, out, err := r()
			if out != c.out || size != int64(len(c.out)) || wire != c.wire || err != nil {
				t.Errorf("%s, %.20q: %.20q, %d, %d, %v", what, c.in, out, size, wire, err)
			}
		}
	}
	if _, _, err := Text(&bytes.Buffer{}, iotest.ErrReader(os.ErrDeadlineExceeded)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestRoomForMany(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"tmp", "new", "cur"} {
		if err := os.Mkdir(dir+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	root, err := durable.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tmp, err := durable.OpenDirAt(root, "tmp")
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	if counted, err := Room(root, tmp, Quota{}, 1<<40, 1000, nil); counted || err != nil {
		t.Error("no quota: ", counted, err)
	}
	if counted, err := Room(root, tmp, Quota{Messages: 3}, 1, 4, nil); !counted || !errors.Is(err, ErrQuota) {
		t.Error("4 of 3 messages: ", counted, err)
	}
	Count(root, 10, 2)
	for n, want := range []error{1: nil, 2: ErrQuota} {
		// What a file of the maildir does not bear out is counted anew before anybody is refused: this one is.
		os.WriteFile(dir+"/maildirsize", []byte("3C\n10 2\n"), 0o600)
		os.WriteFile(dir+"/cur/1.a:2,", []byte("x"), 0o600)
		os.WriteFile(dir+"/cur/2.b:2,", []byte("x"), 0o600)
		if _, err := Room(root, tmp, Quota{}, 1, int64(n), nil); n > 0 && !errors.Is(err, want) {
			t.Error(n, err)
		}
	}
	Count(root, -5, -1)
	if b, _ := os.ReadFile(dir + "/maildirsize"); !strings.HasSuffix(string(b), "-5 -1\n") {
		t.Errorf("%q", b)
	}
}

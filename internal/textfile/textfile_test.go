package textfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// table is a file whose text may not have the word bad in it, and what was reported.
func table(t *testing.T) (f *File[string], reported *[]string) {
	t.Helper()
	reported = new([]string)
	f = &File[string]{Path: filepath.Join(t.TempDir(), "table"), Max: 100,
		Report: func(err error) { *reported = append(*reported, err.Error()) },
		Parse: func(_, text string) (string, error) {
			if strings.Contains(text, "bad") {
				return "", errors.New("bad word")
			}
			return text, nil
		}}
	return f, reported
}

var clock = time.Now().Add(-time.Hour)

// write replaces the text and gives it a time of its own, however coarse the file system's clock.
func write(t *testing.T, path, text string) {
	t.Helper()
	clock = clock.Add(time.Second)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, clock, clock)); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, f *File[string], text string) {
	t.Helper()
	if got, err := f.Get(); err != nil || got != text {
		t.Errorf("got %q, %v, want %q", got, err, text)
	}
}

func TestAByteOrderMarkIsNoneOfTheText(t *testing.T) {
	f, _ := table(t)
	write(t, f.Path, "\ufeffname: value")
	want(t, f, "name: value")
}

func TestAChangedFileIsReadAgainAndABrokenOneIsNot(t *testing.T) {
	f, reported := table(t)
	write(t, f.Path, "one")
	want(t, f, "one")
	write(t, f.Path, "two")
	want(t, f, "two")
	write(t, f.Path, "bad")
	for range 3 {
		want(t, f, "two")
	}
	write(t, f.Path, strings.Repeat("x", 101))
	want(t, f, "two")
	if len(*reported) != 2 {
		t.Errorf("two changes that cannot be used, reported as %q", *reported)
	}
	write(t, f.Path, "three")
	want(t, f, "three")
}

func TestAFileThatIsGoneIsReportedOnce(t *testing.T) {
	f, reported := table(t)
	write(t, f.Path, "one")
	want(t, f, "one")
	for range 2 {
		if err := os.Remove(f.Path); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			want(t, f, "one")
		}
		write(t, f.Path, "one")
		want(t, f, "one")
	}
	if len(*reported) != 2 {
		t.Errorf("gone twice, reported as %q", *reported)
	}
}

func TestNothingGoodIsAnErrorUntilThereIs(t *testing.T) {
	f, _ := table(t)
	for _, text := range []string{"", "bad"} {
		if text != "" {
			write(t, f.Path, text)
		}
		for range 2 {
			if v, err := f.Get(); err == nil {
				t.Errorf("%q: %q and no error", text, v)
			}
		}
	}
	write(t, f.Path, "one")
	want(t, f, "one")
}

// What everyone may write is not used, until the advice of the message has been followed.
func TestAWorldWritableFileIsRefusedUntilItIsNot(t *testing.T) {
	f, _ := table(t)
	write(t, f.Path, "one")
	if err := os.Chmod(f.Path, 0o602); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("error %v", err)
	}
	if err := os.Chmod(f.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, f, "one")
}

func TestAFIFODoesNotHangAnybody(t *testing.T) {
	f, _ := table(t)
	if err := syscall.Mkfifo(f.Path, 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := f.Get(); err == nil {
		t.Error("a FIFO was read")
	}
}

package facts

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"postamt/internal/message"
)

// counting is a file that counts what is read of it.
type counting struct {
	io.ReaderAt
	n int64
}

func (c *counting) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, at)
	c.n += int64(n)
	return n, err
}

// Which part it is of, and that a large one is not read to its end.
func TestPreview(t *testing.T) {
	mixed := func(parts ...string) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\n" + strings.Join(parts, "\n--b\n") + "\n--b--\n"
	}
	alternative := strings.NewReplacer("mixed", "alternative", "=b", "=c", "--b", "--c").Replace(mixed("Content-Type: text/plain\n\nplain", "Content-Type: text/html\n\n<p>html"))
	long := strings.Repeat("words of a long text\n", 50_000)
	for _, x := range []struct{ text, want string }{
		{"Subject: x\n\nbody\n", "body"},
		{"", ""},
		{mixed("\nfirst", "\nsecond"), "first"},
		{mixed("Content-Type: image/png\n\nx", "\nsecond"), "second"},
		{mixed("Content-Disposition: attachment\n\nx", alternative, "\nlast"), "plain"},
		{strings.Replace(alternative, "\nplain", "\n \n", 1), "html"},
		{mixed("Content-Type: message/rfc822\n\nSubject: x\n\nforwarded"), ""},
		{mixed("Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n8NLJ18XU"), "Привет"},
		{mixed("Content-Type: text/plain; charset=utf-8\n\n\xff\xc3\xa4"), "\ufffdä"},
		{"\n" + long, strings.Repeat("words of a long text ", 10)[:message.PreviewLength-1]},
		{"\n" + strings.Repeat("> quoted\n", 500) + "answer\n", "answer"},
		{"Content-Type: text/html\n\n<style>" + strings.Repeat("p {}\n", 5_000) + "</style>" + long, strings.Repeat("words of a long text ", 10)[:message.PreviewLength-1]},
	} {
		file := &counting{ReaderAt: strings.NewReader(x.text)}
		got, err := describe(t, x.text).Preview(file)
		if got != x.want || err != nil || file.n > previewRead {
			t.Errorf("%.200q: %q, %v, want %q; %d octets were read", x.text, got, err, x.want, file.n)
		}
	}
	f := describe(t, "\n"+long)
	file := &counting{ReaderAt: bytes.NewReader([]byte("\n" + long))}
	if f.Preview(file); file.n > 4<<10 {
		t.Errorf("%d octets were read", file.n)
	}
	if _, err := f.Preview(failing{}); err != io.ErrClosedPipe {
		t.Error(err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

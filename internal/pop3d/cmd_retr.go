package pop3d

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"

	"postamt/internal/pop3"
)

// RFC 1939 section 5: "RETR" msg.
func (t *transaction) cmdRetr(cmd pop3.Command) *pop3.Response {
	w := cmd.Words()
	if len(w) != 1 {
		return t.fault("syntax: RETR message-number")
	}
	i, size, m, r := t.open(w[0])
	if r != nil {
		return r
	}
	defer m.Close()
	t.c.WriteResponse(pop3.OK(strconv.FormatInt(size, 10) + " octets"))
	text := t.c.Message()
	if !t.send(i, text, m, size) {
		return nil
	}
	// M12: the file was changed, or its size was never known. The CRLF that ends an unfinished last line may be in the size.
	if n := text.Octets(); n != size && !(text.Unfinished() && n+2 == size) {
		t.drop.Mistaken(i)
		t.broken = fmt.Errorf("message %d (%s) has %d octets or more where %d were expected", i+1, t.drop.UIDL(i), n, size)
		t.close("changed")
		return nil
	}
	t.retrieved++
	t.end(text)
	return nil
}

// RFC 1939 section 7: "TOP" msg n.
func (t *transaction) cmdTop(cmd pop3.Command) *pop3.Response {
	w := cmd.Words()
	if len(w) != 2 {
		return t.fault("syntax: TOP message-number lines")
	}
	lines, err := pop3.ParseNumber(w[1])
	if err != nil {
		return t.fault("a number of lines is needed")
	}
	i, size, m, r := t.open(w[0])
	if r != nil {
		return r
	}
	defer m.Close()
	t.c.WriteResponse(pop3.OK("the top of it"))
	text := t.c.Top(lines)
	if t.send(i, text, m, size) {
		t.tops++
		t.end(text)
	}
	return nil
}

// open opens the message that an argument names.
func (t *transaction) open(arg string) (i int, size int64, m Message, r *pop3.Response) {
	if i, r = t.message(arg); r != nil {
		return
	}
	size, err := t.drop.Size(i)
	if err == nil {
		m, err = t.drop.Open(i)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = pop3.Err("", "the message is gone")
	case err != nil:
		t.srv.Log.Problem(t.id, "open message "+strconv.Itoa(i+1), err)
		r = pop3.Err(pop3.SysTemp, "the message cannot be read now")
	}
	return
}

// send sends what is in m, or as much as text wants; but not more than would fit its size, however long m becomes meanwhile. Without
// success the session ends, within the message: an end would make the client take it for whole.
func (t *transaction) send(i int, text *pop3.Message, m Message, size int64) bool {
	_, err := text.ReadFrom(io.LimitReader(m, size+1))
	t.sent += text.Octets()
	if err == nil {
		return true
	}
	if werr := t.c.Flush(); werr != nil { // it is said again
		var ne net.Error
		if errors.As(werr, &ne) && ne.Timeout() {
			t.close("timeout")
		} else {
			t.close("lost")
		}
		return false
	}
	t.broken = fmt.Errorf("read message %d: %w", i+1, err)
	t.close("failed")
	return false
}

func (t *transaction) end(text *pop3.Message) {
	if text.End() != nil {
		t.close("lost")
	}
}

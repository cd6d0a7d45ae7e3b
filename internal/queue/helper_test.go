package queue

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/internal/durable"
)

// openTest opens a queue and checks it when the test ends. (queuetest, which does
// the same for other packages, cannot be imported from here.)
func openTest(t testing.TB, dir string, o Options) *Queue {
	t.Helper()
	q, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		problems, err := q.Check()
		if err != nil {
			t.Error(err)
		}
		for _, p := range problems {
			t.Error("check:", p)
		}
		q.Close()
	})
	return q
}

func newQueue(t testing.TB) *Queue { return openTest(t, t.TempDir(), Options{}) }

// damagedQueue is one whose corrupt directory may fill: it is emptied before the
// check, and told holds what Foreign heard.
func damagedQueue(t testing.TB) (q *Queue, told *[]string) {
	told = new([]string)
	q = openTest(t, t.TempDir(), Options{Foreign: func(path, what string) { *told = append(*told, path+": "+what) }})
	t.Cleanup(func() { emptyCorrupt(t, q) })
	return q, told
}

func emptyCorrupt(t testing.TB, q *Queue) {
	t.Helper()
	for _, n := range q.names(t, "corrupt") {
		if err := os.RemoveAll(q.path + "/corrupt/" + n); err != nil {
			t.Error(err)
		}
	}
}

func (q *Queue) names(t testing.TB, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(filepath.Join(q.path, dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

// files are all that is in active.
func (q *Queue) files(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, s := range q.names(t, "active") {
		if len(s) != 1 || shardIndex(s[0]) < 0 {
			all = append(all, "active/"+s)
			continue
		}
		for _, n := range q.names(t, "active/"+s) {
			all = append(all, "active/"+s+"/"+n)
		}
	}
	return all
}

func envelope(rcpts ...string) *Envelope {
	now := time.UnixMicro(time.Now().UnixMicro()).UTC()
	id := NewID(now)
	e := &Envelope{ID: id, Origin: id, Arrived: now, From: "alice@example.org"}
	if len(rcpts) == 0 {
		rcpts = []string{"bob@example.com"}
	}
	for _, r := range rcpts {
		e.Rcpts = append(e.Rcpts, Rcpt{State: Pending, Addr: r})
	}
	return e
}

func manyRcpts(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("user%d@example.com", i)
	}
	return s
}

// hardEnvelope has something difficult in every field.
func hardEnvelope() *Envelope {
	e := envelope("bob=x+tag@example.com", "\"a b\"@example.com", "jürgen@exämple.de")
	e.From = "bounce+bob=example.com@example.org"
	e.Body, e.UTF8, e.Ret, e.EnvID = "8BITMIME", true, "HDRS", "a b=+\n- rcpt evil@example.com"
	e.Client = Client{
		IP: netip.MustParseAddr("fe80::1%eth0"), Port: 65535, Name: "mx.example.net", Helo: "[192.0.2.7]\r\n\r\n",
		Proto: "ESMTPSA", Login: "al ice", Listener: "mx", TLS: "TLS1.3 TLS_AES_128_GCM_SHA256",
	}
	e.Rcpts[0].Notify = "SUCCESS,FAILURE"
	e.Rcpts[0].ORcpt = "rfc822;bob@example.net"
	e.Rcpts[1].State = Done
	e.Rcpts[1].Via = "list@example.com\x00"
	e.Rcpts[2].State = Failed
	e.Rcpts[2].Refused = "550 5.1.1 \r\n- rcpt evil@example.com"
	return e
}

func put(t testing.TB, q *Queue, e *Envelope, body string) {
	t.Helper()
	if err := tryPut(q, e, body); err != nil {
		t.Fatal(err)
	}
}

func tryPut(q *Queue, e *Envelope, body string) error {
	w, err := q.Create(e)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, onlyReader{strings.NewReader(body)}); err != nil {
		return err
	}
	return w.Commit()
}

// onlyReader hides WriteTo, so that io.Copy writes in blocks as a session does.
type onlyReader struct{ io.Reader }

func get(t testing.TB, q *Queue, id ID) *Message {
	t.Helper()
	m, err := q.Message(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func text(t testing.TB, m *Message) string {
	t.Helper()
	b, err := io.ReadAll(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// scan returns all entries, those being written included.
func scan(t testing.TB, q *Queue) map[ID]Entry {
	t.Helper()
	all := make(map[ID]Entry)
	if err := q.Scan(func(e Entry) bool { all[e.ID] = e; return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

// failAt makes the n-th step of the kind fail.
func failAt(op durable.Op, n int, err error) *durable.Ops {
	return &durable.Ops{Fault: func(at durable.Op, name string) error {
		if at == op {
			if n--; n == 0 {
				return err
			}
		}
		return nil
	}}
}

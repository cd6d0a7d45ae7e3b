package queued

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"postamt/internal/queue"
)

// Of one mailbox all addresses go in one transaction, however many there are: the copies are one only there.
func TestMailboxByManyAddresses(t *testing.T) {
	o := newOffice(t)
	var rcpts []string
	for i := range 25 {
		rcpts = append(rcpts, fmt.Sprintf("bob+%d@example.org", i), fmt.Sprintf("x%d@elsewhere.example", i))
		if i%5 == 0 {
			rcpts = append(rcpts, fmt.Sprintf("dave+%d@example.org", i))
		}
	}
	o.send(sender, rcpts...)
	local := 0
	for _, c := range o.courier.took() {
		if c.to.Local {
			local++
			if n := strings.Count(strings.Join(c.rcpts, " "), "bob+"); n != 0 && n != 25 {
				t.Errorf("a transaction has %d of bob's addresses", n)
			}
		}
	}
	if local == 0 {
		t.Error("nothing was for mailboxes")
	}
	o.wantEmpty()
}

func TestListIsOneBody(t *testing.T) {
	o := newOffice(t)
	o.aliases("news: :include:/news\n")
	o.lists["/news"] = "#: id news.example.org\n#: bounces bounces@example.org\nbob\n"
	for i := range 50 {
		o.lists["/news"] += fmt.Sprintf("x%d@elsewhere.example\n", i)
	}
	id := o.put(sender, "news@example.org")
	m := o.message(id, false)
	o.s.routeAll(m)
	m.file.Close()
	if len(m.spawned) != 1 {
		t.Fatalf("%d messages were made", len(m.spawned))
	}
	child, err := o.q.Message(m.spawned[0])
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	e := &child.Envelope
	if len(e.Rcpts) != 51 || e.From != "bounces@example.org" || !e.VERP || e.Rcpts[0].State != queue.Pending {
		t.Errorf("%d recipients, %+v", len(e.Rcpts), *e)
	}
	body, err := io.ReadAll(child.Reader())
	if err != nil || !strings.HasPrefix(string(body), "List-Id: <news.example.org>\r\nList-Post: <mailto:news@example.org>\r\nPrecedence: list\r\n") {
		t.Errorf("%.200q %v", body, err)
	}
}

func TestWithoutFields(t *testing.T) {
	for in, want := range map[string]string{
		"A: 1\r\nList-Id: x\r\n y\r\n\tz\r\nB: 2\r\n\r\nList-Id: body\r\n": "A: 1\r\nB: 2\r\n\r\nList-Id: body\r\n",
		"LIST-ID : x\r\n":             "",
		"List-Ids: x\r\nno colon\r\n": "List-Ids: x\r\nno colon\r\n",
		"":                            "",
		"List-Id: " + strings.Repeat("x", 100_000) + "\r\nA: 1\r\n\r\nb": "A: 1\r\n\r\nb",
		"A: " + strings.Repeat("List-Id: ", 10_000) + "\r\n\r\n":         "A: " + strings.Repeat("List-Id: ", 10_000) + "\r\n\r\n",
	} {
		got, err := io.ReadAll(withoutFields(strings.NewReader(in), listFields[:]))
		if err != nil || string(got) != want {
			t.Errorf("%.100q: %.100q %v", in, got, err)
		}
	}
}

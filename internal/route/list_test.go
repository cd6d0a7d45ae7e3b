package route

import (
	"testing"

	"postamt/internal/addr"
)

func TestMayPost(t *testing.T) {
	w := world(t, "open: :include:/open\nclosed: :include:/closed\nowner-closed: vera@virt.example\nfew: alice, :include:/few\nplain: :include:/plain\nall: closed, open\n", "", "")
	w.Lists = files{
		"/open":    "#: id open.host.example\n#: bounces open-bounces@host.example\nalice\nx@remote.example",
		"/closed":  "#: id closed.host.example\n#: post members\nbob\nx@remote.example",
		"/few":     "#: id few.host.example\n#: post /posters\nbob",
		"/posters": "y@remote.example\n@friends.example\n@b\u00fccher.example",
		"/plain":   "bob",
	}
	for _, tt := range []struct{ to, from, want string }{
		{"open@host.example", "anyone@else.example", "alice@host.example owner=open-bounces@host.example, x@remote.example owner=open-bounces@host.example"},
		{"open@host.example", "", "error 550 5.7.1 a mailing list takes no mail without a sender"},
		{"closed@host.example", "anyone@else.example", "error 550 5.7.1 this address may not post to the list"},
		{"closed@host.example", "vera@virt.example", "bob@host.example owner=vera@virt.example, x@remote.example owner=vera@virt.example"},
		{"closed@host.example", "BOB@host.example", "bob@host.example owner=vera@virt.example, x@remote.example owner=vera@virt.example"},
		{"few@host.example", "whoever@friends.example", "alice@host.example, bob@host.example"},
		{"few@host.example", "bob@host.example", "alice@host.example, !550 5.7.1 few@host.example"},
		{"few@host.example", "y@remote.example", "alice@host.example, bob@host.example"},
		{"few@host.example", "x@xn--bcher-kva.example", "alice@host.example, bob@host.example"},
		{"plain@host.example", "", "bob@host.example"},
		{"all@host.example", "z@remote.example", "!550 5.7.1 closed@host.example owner=vera@virt.example, alice@host.example owner=open-bounces@host.example, x@remote.example owner=open-bounces@host.example"},
	} {
		l := limits
		l.Posting = true
		if tt.from != "" {
			l.Sender = mbox(t, tt.from)
		}
		if got := ends(w.Expand(mbox(t, tt.to), l)); got != tt.want {
			t.Errorf("%s from %q:\n got %s\nwant %s", tt.to, tt.from, got, tt.want)
		}
	}
	x, err := w.Expand(mbox(t, "all@host.example"), limits)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range x.Finals {
		want := "open"
		if f.Addr.Local == "bob" || f.Addr.Local == "x" { // who is in both is in the first
			want = "closed"
		}
		if f.List == nil || f.List.ID != want+".host.example" || f.ListAt != (addr.Mailbox{Local: want, Domain: "host.example"}) {
			t.Errorf("%v is a member of %+v at %v", f.Addr, f.List, f.ListAt)
		}
	}
}

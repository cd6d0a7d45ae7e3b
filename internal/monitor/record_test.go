package monitor

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"postamt/internal/privilege"
)

func TestRecords(t *testing.T) {
	for _, r := range []request{
		{kind: kindReady}, {kind: kindWho, serial: 7, name: "alice@example.org"},
		{kind: kindHand, serial: math.MaxUint32, name: strings.Repeat("n", MaxName), ticket: bytes.Repeat([]byte{0xff}, MaxTicket)},
		{kind: kindConnect, ticket: []byte{0}},
	} {
		b, err := r.encode()
		if err != nil || len(b) != requestSize {
			t.Fatal(err, len(b))
		}
		got, err := decodeRequest(b)
		if err != nil || got.kind != r.kind || got.serial != r.serial || got.name != r.name || !bytes.Equal(got.ticket, r.ticket) {
			t.Errorf("%+v, %v", got, err)
		}
		// Each byte that means nothing here must be zero, and no length may reach beyond its field.
		for i := range b {
			c := bytes.Clone(b)
			c[i] ^= 0x80
			got, err := decodeRequest(c)
			if err == nil && (i < 1 || len(got.name) > MaxName || len(got.ticket) > MaxTicket || i >= 10 && i < nameAt || i >= requestEnd) {
				t.Errorf("byte %d: taken as %+v", i, got)
			}
		}
		for _, n := range []int{0, 1, requestSize - 1} {
			if _, err := decodeRequest(b[:n]); err == nil {
				t.Errorf("%d bytes are a request", n)
			}
		}
		if _, err := decodeRequest(append(b, 0)); err == nil {
			t.Error("a byte more is a request")
		}
	}
	if _, err := (&request{name: strings.Repeat("n", MaxName+1)}).encode(); err == nil {
		t.Error("a name that is too long")
	}
	o := order{kind: kindAnswer, status: statusFull, serial: 9, uid: 60001, value: strings.Repeat("v", MaxValue)}
	b, err := o.encode()
	if got, derr := decodeOrder(b); err != nil || derr != nil || got != o {
		t.Errorf("%+v, %v, %v", got, err, derr)
	}
	o.value += "v"
	if _, err := o.encode(); err == nil {
		t.Error("a value that is too long")
	}
}

func FuzzRequest(f *testing.F) {
	for _, r := range []request{{kind: kindReady}, {kind: kindConnect, serial: 3, name: "bob", ticket: []byte("ticket")}} {
		b, _ := r.encode()
		f.Add(b)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRequest(b)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is read as %+v, which is written %q, %v", b, r, again, err)
		}
	})
}

// D10, in the monitor's own words.
func TestD10_Judge(t *testing.T) {
	o := Options{MinUID: 100, Front: privilege.Account{UID: 500, GID: 500}}
	for _, c := range []struct {
		uid, gid uint32
		want     error
	}{
		{1000, 1000, nil}, {100, 1, nil}, {0, 1000, ErrRoot}, {1000, 0, ErrRoot}, {99, 1000, ErrLow}, {500, 500, ErrFront}, {1, 1, ErrLow},
		{math.MaxUint32, 1000, ErrRoot}, {1000, math.MaxUint32, ErrRoot},
	} {
		if err := o.judge("x", Account{UID: c.uid, GID: c.gid}); !errors.Is(err, c.want) {
			t.Errorf("%d:%d: %v, want %v", c.uid, c.gid, err, c.want)
		}
	}
	uid := uint32(os.Geteuid())
	dir := t.TempDir()
	for _, c := range []struct {
		home string
		uid  uint32
		want error
	}{{dir, uid, nil}, {dir, uid + 1, ErrHome}, {"", uid + 1, nil}, {dir + "/none", uid + 1, nil}} {
		if err := ownHome("x", Account{UID: c.uid, Home: c.home}); !errors.Is(err, c.want) {
			t.Errorf("%s for %d: %v, want %v", c.home, c.uid, err, c.want)
		}
	}
}

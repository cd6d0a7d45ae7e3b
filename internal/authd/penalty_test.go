package authd

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("198.51.100.7")
	then  = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
)

// A03: one address that guesses waits longer and longer, and after a while is as good as new.
func TestPenaltyOfAnAddressGrowsAndFades(t *testing.T) {
	p := newPenalties()
	for i, want := range []time.Duration{0, 0, 1, 2, 4, 8, 15, 15} {
		if got := p.wait(fmt.Sprint("user", i), here, then); got != want*time.Second {
			t.Errorf("after %d failures: %v, want %v s", i, got, int(want))
		}
		p.failed(fmt.Sprint("user", i), here, then)
	}
	if got := p.wait("other", there, then); got != 0 {
		t.Errorf("another address waits %v", got)
	}
	if got := p.wait("user0", here, then.Add(10*fadeEvery)); got != 0 {
		t.Errorf("after %v it still waits %v", 10*fadeEvery, got)
	}
	if got := p.wait("x", here, then.Add(-time.Hour)); got != maxAddrWait {
		t.Errorf("a clock that goes back forgives: %v", got)
	}
}

// A03: one user from many addresses: everyone waits a little, but not where the user has logged in.
func TestNobodyLocksAUserOut(t *testing.T) {
	p := newPenalties()
	p.succeeded("alice", here, then)
	for i := range 1000 {
		p.failed("alice", netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), then)
	}
	if got := p.wait("alice", here, then); got != 0 {
		t.Errorf("where alice logged in she waits %v", got)
	}
	if got := p.wait("alice", there, then); got != maxUserWait {
		t.Errorf("elsewhere: %v, want %v", got, maxUserWait)
	}
}

// A03: many users from one address.
func TestPenaltyIsOfTheAddressWhateverTheName(t *testing.T) {
	p := newPenalties()
	for i := range 20 {
		p.failed(fmt.Sprint("user", i), here, then)
	}
	if got := p.wait("alice", here, then); got != maxAddrWait {
		t.Errorf("%v", got)
	}
	p.succeeded("mallory", here, then) // an account of his own does not buy him more guesses
	if got := p.wait("alice", here, then); got != maxAddrWait {
		t.Errorf("after one success: %v", got)
	}
}

// A03: who has an account here logs in with it between any two guesses at others.
func TestAnAccountOfOnesOwnBuysNoGuesses(t *testing.T) {
	p := newPenalties()
	for i := range 20 {
		p.failed(fmt.Sprint("user", i), here, then.Add(time.Duration(i)*time.Second))
		p.succeeded("mallory", here, then.Add(time.Duration(i)*time.Second))
	}
	if got := p.wait("alice", here, then.Add(20*time.Second)); got != maxAddrWait {
		t.Errorf("the 21st guess waits %v", got)
	}
}

func TestIPv6CountsByNetwork(t *testing.T) {
	p := newPenalties()
	for i := range 10 {
		p.failed("", netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2::%x", i)), then)
	}
	if p.wait("x", netip.MustParseAddr("2001:db8:1:2:ffff::1"), then) == 0 || p.wait("x", netip.MustParseAddr("2001:db8:1:3::1"), then) != 0 {
		t.Error("not by /64")
	}
	if p.wait("x", netip.MustParseAddr("::ffff:192.0.2.1"), then) != p.wait("x", here, then) {
		t.Error("a mapped address is another")
	}
}

func TestPenaltiesAreBounded(t *testing.T) {
	p := newPenalties()
	for i := range 2 * maxTallies {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		p.failed(fmt.Sprint(i), a, then)
		p.succeeded(fmt.Sprint(i), a, then)
	}
	if n := max(len(p.addrs), len(p.users), len(p.known)); n > maxTallies {
		t.Errorf("%d entries", n)
	}
}

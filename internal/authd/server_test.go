package authd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/maillog"
	"postamt/internal/password"
	"postamt/internal/userdb"
)

// book is a Source in memory.
type book struct {
	name     string
	accounts map[string]*Account
	err      error // instead of any answer
	asked    int
}

func (b *book) String() string { return b.name }

func (b *book) Find(_ context.Context, name string) (*Account, error) {
	b.asked++
	if b.err != nil {
		return nil, b.err
	}
	if a := b.accounts[name]; a != nil {
		return a, nil
	}
	return nil, ErrUnknown
}

func (b *book) List(_ context.Context, each func(string) error) error {
	for name := range b.accounts {
		if err := each(name); err != nil {
			return err
		}
	}
	return b.err
}

// judgeBook is the same as a Checker.
type judgeBook struct{ book }

func (b *judgeBook) Check(ctx context.Context, name, given string, _ netip.Addr) (*Account, error) {
	a, err := b.Find(ctx, name)
	if err == nil && !a.Password.Verify(given) {
		return nil, ErrWrong
	}
	return a, err
}

func stored(t testing.TB, text string) password.Stored {
	t.Helper()
	s, err := password.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newBook(t testing.TB, name string, passwords map[string]string) *book {
	b := &book{name: name, accounts: map[string]*Account{}}
	for user, text := range passwords {
		b.accounts[user] = &Account{User: userdb.User{Name: user, UID: userdb.NoID, GID: userdb.NoID}, Password: stored(t, text)}
	}
	return b
}

// world is a Server with a clock of its own, which notes what it waits for.
type world struct {
	*Server
	mu     sync.Mutex
	now    time.Time
	slept  []time.Duration
	hashes int     // computations that were let in at the gate
	octets []int64 // for which they asked
	log    *bytes.Buffer
	logger *maillog.Logger
}

func newWorld(t testing.TB, change func(*Options), sources ...Source) *world {
	w := &world{now: then, log: new(bytes.Buffer)}
	w.logger = maillog.New(w.log, "authd")
	decoy, err := password.Make("SHA256-CRYPT", "nobody's")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Sources:    sources,
		Mechanisms: []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"},
		Hostname:   "mx.example.test",
		Local:      func(d string) bool { return d == "example.test" },
		Hashes:     2, Memory: 64 << 20,
		Decoy:      stored(t, decoy).Decoy(),
		Derivation: password.Derivation{Secret: []byte("0123456789abcdef0123456789abcdef")},
		Log:        w.logger,
		Now:        func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now },
		Sleep: func(_ context.Context, d time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.slept = append(w.slept, d)
		},
	}
	if change != nil {
		change(&o)
	}
	w.Server = New(o)
	w.gate.entered = func(octets int64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hashes++
		w.octets = append(w.octets, octets)
	}
	return w
}

// lines is what was logged.
func (w *world) lines() string {
	w.logger.Close()
	return w.log.String()
}

// login is one exchange; a response of the script answers each challenge.
func (w *world) login(r authwire.Request, script ...string) authwire.Reply {
	if r.Service == "" {
		r.Service = "smtp"
	}
	x := w.Begin(context.Background(), &r)
	defer x.End()
	for i, s := range script {
		response := []byte(s)
		if i == 0 && s == "" && r.Mechanism == "LOGIN" {
			response = nil // LOGIN has no initial response, not even an empty one
		}
		reply := x.Next(context.Background(), response)
		if reply.Status != authwire.Continue {
			return reply
		}
	}
	return authwire.Reply{Status: authwire.Continue}
}

func (w *world) plain(user, given string) authwire.Reply {
	return w.login(authwire.Request{Mechanism: "PLAIN", RemoteIP: here}, "\x00"+user+"\x00"+given)
}

// verdict is a reply in one word.
func verdict(r authwire.Reply) string {
	if r.Status == authwire.Failed {
		return "no " + string(r.Code)
	}
	return r.Status.String() + " " + r.User
}

func TestPlainAndLogin(t *testing.T) {
	scram, err := password.Make("SCRAM-SHA-256", "secret")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *Options) { o.Sleep = func(context.Context, time.Duration) {} },
		newBook(t, "book", map[string]string{"alice": "{PLAIN}secret", "carol": scram, "locked": "*"}))
	for _, c := range []struct{ user, given, want string }{
		{"alice", "secret", "ok alice"},
		{"Alice", "secret", "ok alice"},
		{"alice@example.test", "secret", "ok alice"},
		{"alice@EXAMPLE.test", "secret", "ok alice"},
		{"alice@other.test", "secret", "no "},
		{"alice", "Secret", "no "},
		{"alice", "secret ", "no "},
		{"alice", "", "no "},
		{"carol", "secret", "ok carol"},
		{"carol", "wrong", "no "},
		{"locked", "secret", "no "},
		{"nobody", "secret", "no "},
		{"../alice", "secret", "no "},   // A05
		{"alice\nx", "secret", "no "},   // A05
		{"alice%s", "secret", "no "},    // A05
		{"al\u0130ce", "secret", "no "}, // A05
		{"alice ", "secret", "no "},     // A05
		{strings.Repeat("a", 5000), "secret", "no "},
	} {
		if got := verdict(w.plain(c.user, c.given)); got != c.want {
			t.Errorf("PLAIN %q %q: %s, want %s", c.user, c.given, got, c.want)
		}
		if c.given == "" {
			continue
		}
		if got := verdict(w.login(authwire.Request{Mechanism: "LOGIN", RemoteIP: here}, "", c.user, c.given)); got != c.want && len(c.user) < 5000 {
			t.Errorf("LOGIN %q %q: %s, want %s", c.user, c.given, got, c.want)
		}
	}
	if got := verdict(w.login(authwire.Request{Mechanism: "PLAIN", RemoteIP: here}, "carol\x00alice\x00secret")); got != "no authz_fail" {
		t.Errorf("alice as carol: %s", got)
	}
	for _, name := range []string{"GSSAPI", "OAUTHBEARER", "XOAUTH2", "ANONYMOUS", "SCRAM-SHA-1-PLUS", ""} {
		if got := verdict(w.login(authwire.Request{Mechanism: name, RemoteIP: here}, "x")); got != "no auth_mech_invalid" {
			t.Errorf("mechanism %q: %s", name, got)
		}
	}
	if log := w.lines(); strings.Contains(log, "secret") || strings.Contains(log, "ecret ") { // A11
		t.Errorf("a password is in the log:\n%s", log)
	}
}

// A05: who does not exist costs what a wrong password costs: one computation, and of the kind that most users' passwords need.
func TestAnUnknownUserCostsOneHashAsAWrongPasswordDoes(t *testing.T) {
	slow, err := password.Make("ARGON2ID", "secret")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := password.Make("SCRAM-SHA-256", "secret")
	if err != nil {
		t.Fatal(err)
	}
	cost := stored(t, slow).Memory()
	if cost < 1<<20 {
		t.Fatalf("argon2 needs %d octets", cost)
	}
	plain := newBook(t, "plain", map[string]string{"alice": "{PLAIN}secret"})
	hashed := newBook(t, "hashed", map[string]string{"bob": slow, "locked": "!"})
	w := newWorld(t, func(o *Options) { o.Decoy = stored(t, slow).Decoy() }, plain, hashed)
	for _, user := range []string{"alice", "bob", "locked", "nobody", "nobody@example.test", "nobody@other.test"} {
		for _, given := range []string{"wrong", "secret"} {
			w.octets = nil
			w.plain(user, given)
			if len(w.octets) != 1 || w.octets[0] != cost {
				t.Errorf("PLAIN %s %s: computations of %v octets, want one of %d", user, given, w.octets, cost)
			}
		}
	}
	w = newWorld(t, nil, plain, newBook(t, "keys", map[string]string{"carol": keys, "locked": "!"}))
	for _, user := range []string{"alice", "carol", "locked", "nobody", "nobody@other.test"} {
		w.hashes = 0
		scram(w, user, "wrong")
		if w.hashes != 1 {
			t.Errorf("SCRAM %s: %d computations", user, w.hashes)
		}
	}
}

func TestTheFirstSourceThatKnowsAnswers(t *testing.T) {
	first := newBook(t, "first", map[string]string{"alice": "{PLAIN}one", "alice@example.test": "{PLAIN}full"})
	second := newBook(t, "second", map[string]string{"alice": "{PLAIN}two", "bob": "{PLAIN}two"})
	third := &judgeBook{*newBook(t, "third", map[string]string{"dora": "{PLAIN}three"})}
	w := newWorld(t, nil, first, second, third)
	for _, c := range []struct{ user, given, want string }{
		{"alice", "one", "ok alice"}, {"alice", "two", "no "}, {"bob", "two", "ok bob"},
		{"alice@example.test", "full", "ok alice@example.test"}, {"alice@example.test", "one", "no "},
		{"dora", "three", "ok dora"}, {"dora", "two", "no "}, {"dora@example.test", "three", "ok dora"},
	} {
		if got := verdict(w.plain(c.user, c.given)); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.user, c.given, got, c.want)
		}
	}
}

// A source that cannot tell ends the search, with "later": the next one may know somebody else of that name.
func TestASourceThatCannotTellIsNeitherYesNorNo(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "CRAM-MD5", "SCRAM-SHA-256"} {
		first := newBook(t, "first", nil)
		first.err = errors.New("disk on fire")
		second := newBook(t, "second", map[string]string{"alice": "{PLAIN}secret"})
		w := newWorld(t, nil, first, second)
		var got authwire.Reply
		switch mechanism {
		case "PLAIN":
			got = w.plain("alice", "secret")
		case "CRAM-MD5":
			got = cram(w, "alice", "secret")
		default:
			got = w.login(authwire.Request{Mechanism: mechanism, RemoteIP: here}, "n,,n=alice,r=abcdefghijkl")
		}
		if got.Code != authwire.TempFail || got.Err == nil || second.asked > 0 || len(w.slept) > 0 {
			t.Errorf("%s: %s, %v, the second was asked %d times, %v", mechanism, verdict(got), got.Err, second.asked, w.slept)
		}
		if _, err := w.Lookup(context.Background(), &authwire.Query{User: "alice"}); err == nil || errors.Is(err, authwire.ErrNotFound) {
			t.Errorf("look-up: %v", err)
		}
	}
}

func TestAccountsThatMayNotLogIn(t *testing.T) {
	b := newBook(t, "book", map[string]string{"net": "{PLAIN}secret", "none": "{PLAIN}secret", "off": "{PLAIN}secret",
		"old": "{PLAIN}secret", "nonet": "{PLAIN}secret", "six": "{PLAIN}secret"})
	b.accounts["net"].AllowNets = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	b.accounts["nonet"].AllowNets = []netip.Prefix{}
	b.accounts["six"].AllowNets = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	b.accounts["none"].NoLogin = true
	b.accounts["off"].Disabled = true
	b.accounts["old"].Expired = true
	w := newWorld(t, nil, b)
	for _, c := range []struct{ user, from, right, wrong string }{
		{"net", "198.51.100.9", "ok net", "no "},
		{"net", "::ffff:198.51.100.9", "ok net", "no "},
		{"net", "192.0.2.1", "no ", "no "},
		{"net", "", "ok net", "no "}, // a local socket
		{"nonet", "192.0.2.1", "no ", "no "},
		{"six", "2001:db8::1", "ok six", "no "},
		{"six", "198.51.100.9", "no ", "no "},
		{"none", "192.0.2.1", "no user_disabled", "no "},
		{"off", "192.0.2.1", "no user_disabled", "no "},
		{"old", "192.0.2.1", "no pass_expired", "no "},
	} {
		from, _ := netip.ParseAddr(c.from)
		try := func(user, given string) string {
			return verdict(w.login(authwire.Request{Mechanism: "PLAIN", RemoteIP: from}, "\x00"+user+"\x00"+given))
		}
		if got := try(c.user, "secret"); got != c.right {
			t.Errorf("%s from %s: %s, want %s", c.user, c.from, got, c.right)
		}
		if got := try(c.user, "wrong"); got != c.wrong { // says nothing of the account
			t.Errorf("%s from %s with a wrong password: %s", c.user, c.from, got)
		}
	}
}

// A03: the right password among wrong ones comes as late as a wrong one would, or the first quick answer would be the yes.
func TestSuccessWaitsAsLongAsFailure(t *testing.T) {
	for _, given := range []string{"secret", "wrong"} {
		w := newWorld(t, nil, newBook(t, "book", map[string]string{"alice": "{PLAIN}secret"}))
		for range 5 {
			w.plain("alice", "guess")
		}
		w.slept = nil
		w.plain("alice", given)
		if len(w.slept) != 1 || w.slept[0] != 8*time.Second {
			t.Errorf("%s waits %v", given, w.slept)
		}
		w.now = w.now.Add(time.Hour)
		w.slept = nil
		w.plain("alice", given)
		if len(w.slept) != 0 {
			t.Errorf("an hour later %s waits %v", given, w.slept)
		}
	}
	w := newWorld(t, nil, newBook(t, "book", nil))
	for range 9 { // whoever asks delays by himself
		w.login(authwire.Request{Mechanism: "PLAIN", RemoteIP: here, NoPenalty: true}, "\x00x\x00y")
	}
	if len(w.slept) > 0 {
		t.Errorf("no-penalty: %v", w.slept)
	}
}

// A03: one address and one user, a hundred at the same moment.
func TestGuessesAtTheSameMomentDoNotAllFindACleanSheet(t *testing.T) {
	w := newWorld(t, nil, newBook(t, "book", map[string]string{"alice": "{PLAIN}secret"}))
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { w.plain("alice", "guess") })
	}
	wg.Wait()
	if len(w.slept) < 90 {
		t.Errorf("%d of 100 waited", len(w.slept))
	}
}

func TestExternal(t *testing.T) {
	w := newWorld(t, nil, newBook(t, "book", map[string]string{"alice": "*"}))
	for _, c := range []struct {
		r        authwire.Request
		response string
		want     string
	}{
		{authwire.Request{ValidClientCert: true, CertUsername: "alice@example.test"}, "", "ok alice"},
		{authwire.Request{ValidClientCert: true, CertUsername: "Alice"}, "alice", "ok alice"},
		{authwire.Request{ValidClientCert: true, CertUsername: "alice@example.test"}, "alice", "ok alice"},
		{authwire.Request{ValidClientCert: true, CertUsername: "nobody"}, "alice", "no authz_fail"},
		{authwire.Request{ValidClientCert: true, CertUsername: "alice"}, "bob", "no authz_fail"},
		{authwire.Request{ValidClientCert: true, CertUsername: "nobody"}, "", "no "},
		{authwire.Request{ValidClientCert: true}, "", "no auth_mech_invalid"},
		{authwire.Request{CertUsername: "alice"}, "", "no auth_mech_invalid"},
	} {
		c.r.Mechanism, c.r.RemoteIP = "EXTERNAL", here
		if got := verdict(w.login(c.r, c.response)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.r, got, c.want)
		}
	}
}

func TestLookUps(t *testing.T) {
	b := newBook(t, "book", map[string]string{"alice": "{PLAIN}secret", "bob": "*"})
	b.accounts["alice"].UID, b.accounts["alice"].GID, b.accounts["alice"].Home = 0, 100, "/home/alice"
	b.accounts["alice"].Quota = userdb.Quota{Bytes: 1000, Messages: 5}
	b.accounts["bob"].NoLogin = true
	w := newWorld(t, func(o *Options) { o.Mailbox = func(u *userdb.User) string { return u.Home + "/Maildir" } }, b)
	u, err := w.Lookup(context.Background(), &authwire.Query{User: "Alice@Example.Test"})
	want := "{alice [{uid 0} {gid 100} {home /home/alice} {mail maildir:/home/alice/Maildir} {quota_rule *:bytes=1000:messages=5}]}"
	if got := fmt.Sprint(u); err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	for _, name := range []string{"nobody", "../alice", "alice@other.test", ""} {
		if _, err := w.Lookup(context.Background(), &authwire.Query{User: name}); !errors.Is(err, authwire.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	u, err = w.Pass(context.Background(), &authwire.Query{User: "bob"})
	if _, no := u.Fields.Get("nologin"); err != nil || !no {
		t.Errorf("PASS bob: %v, %v", u, err)
	}
	if err := w.List(context.Background(), nil, func(string) error { return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("list: %v", err)
	}
}

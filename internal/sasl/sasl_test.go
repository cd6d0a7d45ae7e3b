package sasl

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postamt/internal/channel"
	"postamt/internal/password"
	"postamt/internal/userdb"
)

// people are who can log in in these tests. carol's password is not stored in clear, and in no form that SCRAM knows; dora's are SCRAM's keys.
var people = map[string]string{
	"alice": "{PLAIN}tanstaaf",
	"bob":   "{PLAIN}hunter=2,",
	"carol": "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$oLGMiLvOEb8LsFik4uMU5g$tsfr8sGNa5FpquqHdT4kl/7FCX6c9GLHOcpItGnVWqE",
	"dora":  "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", // pencil
	"tim":   "{PLAIN}tanstaaftanstaaf",
	"lock":  "!",
	"mrose": "{PLAIN}tanstaaf",
}

var errDown = errors.New("the disk is full")

// watch is Credentials that write down what is asked and computed.
type watch struct {
	Users
	asked []string
}

func newWatch(t testing.TB) *watch {
	w := &watch{}
	w.Find = func(_ context.Context, user string) (password.Stored, error) {
		switch text, ok := people[user]; {
		case user == "down":
			return password.Stored{}, errDown
		case !ok:
			return password.Stored{}, ErrCredentials
		default:
			s, err := password.Parse(text)
			if err != nil {
				t.Errorf("%s: %v", user, err)
			}
			return s, nil
		}
	}
	decoy, err := password.Parse(people["carol"])
	if err != nil {
		t.Fatal(err)
	}
	w.Decoy = decoy
	w.Derivation = password.Derivation{Secret: []byte("0123456789abcdef"), Iterations: 4096}
	w.Gate = func(_ context.Context, octets int64) (func(), error) {
		w.asked = append(w.asked, fmt.Sprintf("compute %d", octets))
		return func() { w.asked = append(w.asked, "computed") }, nil
	}
	return w
}

func (w *watch) Verify(ctx context.Context, user, given string) error {
	w.asked = append(w.asked, "Verify")
	return w.Users.Verify(ctx, user, given)
}

func (w *watch) SCRAM(ctx context.Context, user string, h password.SCRAMHash) (password.Keys, bool, error) {
	w.asked = append(w.asked, "SCRAM")
	return w.Users.SCRAM(ctx, user, h)
}

func (w *watch) Secret(ctx context.Context, user string) (string, bool, error) {
	w.asked = append(w.asked, "Secret")
	return w.Users.Secret(ctx, user)
}

func options(c Credentials) Options {
	return Options{
		Credentials: c,
		Canonical:   userdb.Canonical,
		Hostname:    "mx.example.org",
		External:    "Alice",
		Origin:      "<1896.",
		Bindings:    []channel.Binding{{Type: channel.TLSExporter, Data: []byte("exported")}, {Type: channel.TLSServerEndPoint, Data: []byte("certificate")}},
		PlusOffered: true,
		Token: func(_ context.Context, token string) (string, error) {
			switch token {
			case "good", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==":
				return "Alice", nil
			case "down":
				return "", errDown
			case "odd":
				return "../alice", nil
			case "nologin":
				return "", ErrNotAuthorized
			}
			if strings.ContainsAny(token, " \n") {
				return "", errDown // it must not come as far as this
			}
			return "", fmt.Errorf("%w: expired", ErrCredentials)
		},
		OAuth: OAuth{Scope: "mail", Configuration: "https://id.example.org/.well-known/openid-configuration"},
	}
}

func begin(t testing.TB, mechanism string, o Options) *Exchange {
	t.Helper()
	x, err := New(mechanism, o)
	if err != nil {
		t.Fatalf("%s: %v", mechanism, err)
	}
	return x
}

// run gives the responses one after the other, and returns the challenges and how it ends. None is left over.
func run(t testing.TB, x *Exchange, responses ...string) (challenges []string, done bool, err error) {
	t.Helper()
	for i, r := range responses {
		response := []byte(r)
		if r == absent {
			response = nil
		}
		var c []byte
		c, done, err = x.Next(context.Background(), response)
		challenges = append(challenges, string(c))
		if (done || err != nil) && i != len(responses)-1 {
			t.Fatalf("over after response %d: %v", i, err)
		}
	}
	return challenges, done, err
}

const absent = "no initial response"

// The example of RFC 1939 section 7.
const (
	apop       = "<1896.697170952@dbc.mtview.ca.us>"
	apopDigest = "\xc4\xc9\x33\x4b\xac\x56\x0e\xcc\x97\x9e\x58\x00\x1b\x3e\x22\xfb"
)

// Each row is an exchange: responses, and who has logged in, or the error. Rows A01 and A05 of the catalogue are among them.
func TestExchanges(t *testing.T) {
	long := strings.Repeat("x", MaxResponse+1)
	for _, c := range []struct {
		mechanism string
		responses []string
		want      any // error, or Identity.Authorized
	}{
		{"PLAIN", []string{"\x00tim\x00tanstaaftanstaaf"}, "tim"}, // RFC 4616 section 4
		{"PLAIN", []string{absent, "\x00tim\x00tanstaaftanstaaf"}, "tim"},
		{"PLAIN", []string{"tim\x00tim\x00tanstaaftanstaaf"}, "tim"},
		{"PLAIN", []string{"TIM\x00Tim\x00tanstaaftanstaaf"}, "tim"},
		{"PLAIN", []string{"\x00carol\x00secret"}, "carol"},
		{"PLAIN", []string{"\x00dora\x00pencil"}, "dora"},
		{"PLAIN", []string{"alice\x00tim\x00tanstaaftanstaaf"}, ErrNotAuthorized}, // A01
		{"PLAIN", []string{"alice\x00tim\x00wrong"}, ErrCredentials},
		{"PLAIN", []string{"../x\x00tim\x00tanstaaftanstaaf"}, ErrCredentials}, // A05
		{"PLAIN", []string{"\x00tim\x00wrong"}, ErrCredentials},
		{"PLAIN", []string{"\x00tim\x00t"}, ErrCredentials},
		{"PLAIN", []string{"\x00tim\x00"}, ErrCredentials},
		{"PLAIN", []string{"\x00lock\x00!"}, ErrCredentials},
		{"PLAIN", []string{"\x00nobody\x00x"}, ErrCredentials},
		{"PLAIN", []string{"\x00\x00x"}, ErrMalformed},
		{"PLAIN", []string{""}, ErrMalformed},
		{"PLAIN", []string{absent, ""}, ErrMalformed},
		{"PLAIN", []string{"tim"}, ErrMalformed},
		{"PLAIN", []string{"tim\x00tanstaaftanstaaf"}, ErrMalformed},
		{"PLAIN", []string{"\x00tim\x00tanstaaftanstaaf\x00"}, ErrMalformed},
		{"PLAIN", []string{"\x00\x00tim\x00tanstaaftanstaaf"}, ErrMalformed},
		{"PLAIN", []string{"\x00t\xffm\x00x"}, ErrMalformed},
		{"PLAIN", []string{"\x00" + long + "\x00x"}, ErrMalformed},
		{"PLAIN", []string{"\x00tim\x00" + strings.Repeat("x", 12000)}, ErrCredentials},
		{"PLAIN", []string{"\x00down\x00x"}, ErrUnavailable},

		{"LOGIN", []string{absent, "tim", "tanstaaftanstaaf"}, "tim"},
		{"LOGIN", []string{"tim", "tanstaaftanstaaf"}, "tim"},
		{"LOGIN", []string{"tim", "wrong"}, ErrCredentials},
		{"LOGIN", []string{"tim", ""}, ErrCredentials},
		{"LOGIN", []string{"../x", "x"}, ErrCredentials},
		{"LOGIN", []string{"tim", "tanstaaftanstaaf\x00"}, ErrMalformed},
		{"LOGIN", []string{""}, ErrMalformed},
		{"LOGIN", []string{absent, ""}, ErrMalformed},
		{"LOGIN", []string{"down", "x"}, ErrUnavailable},

		{"APOP", []string{apop + "\x00mrose\x00" + apopDigest}, "mrose"}, // RFC 1939 section 7
		{"APOP", []string{apop + "\x00mrose\x00" + strings.Repeat("\x00", 16)}, ErrCredentials},
		{"APOP", []string{apop + "x\x00mrose\x00" + apopDigest}, ErrCredentials},
		{"APOP", []string{apop + "\x00tim\x00" + apopDigest}, ErrCredentials},
		{"APOP", []string{apop + "\x00carol\x00" + apopDigest}, ErrCredentials},
		{"APOP", []string{apop + "\x00lock\x00" + apopDigest}, ErrCredentials},
		{"APOP", []string{apop + "\x00nobody\x00" + apopDigest}, ErrCredentials},
		{"APOP", []string{apop + "\x00../x\x00" + apopDigest}, ErrCredentials},
		{"APOP", []string{"<1897.697170952@dbc.mtview.ca.us>\x00mrose\x00" + apopDigest}, ErrUnavailable}, // of another connection
		{"APOP", []string{apop + "\x00down\x00" + apopDigest}, ErrUnavailable},
		{"APOP", []string{apop + "\x00mrose\x00" + apopDigest[1:]}, ErrMalformed},
		{"APOP", []string{apop + "\x00mrose"}, ErrMalformed},
		{"APOP", []string{apop + "\x00mr\xffose\x00" + apopDigest}, ErrMalformed},
		{"APOP", []string{""}, ErrMalformed},
		{"APOP", []string{absent}, ErrMalformed},

		{"CRAM-MD5", []string{"tim 00000000000000000000000000000000"}, ErrMalformed}, // the server speaks first
		{"CRAM-MD5", []string{absent, "tim 00000000000000000000000000000000"}, ErrCredentials},
		{"CRAM-MD5", []string{absent, "carol 00000000000000000000000000000000"}, ErrCredentials},
		{"CRAM-MD5", []string{absent, "nobody 00000000000000000000000000000000"}, ErrCredentials},
		{"CRAM-MD5", []string{absent, "a/b 00000000000000000000000000000000"}, ErrCredentials},
		{"CRAM-MD5", []string{absent, " 00000000000000000000000000000000"}, ErrMalformed},
		{"CRAM-MD5", []string{absent, "tim 0000000000000000000000000000000"}, ErrMalformed},
		{"CRAM-MD5", []string{absent, "tim"}, ErrMalformed},
		{"CRAM-MD5", []string{absent, ""}, ErrMalformed},
		{"CRAM-MD5", []string{absent, "down 00000000000000000000000000000000"}, ErrUnavailable},

		{"EXTERNAL", []string{""}, "alice"},
		{"EXTERNAL", []string{absent, ""}, "alice"},
		{"EXTERNAL", []string{"ALICE"}, "alice"},
		{"EXTERNAL", []string{"bob"}, ErrNotAuthorized},
		{"EXTERNAL", []string{"bob\x00"}, ErrMalformed},
		{"EXTERNAL", []string{"\xff"}, ErrMalformed},
		{"EXTERNAL", []string{"%s"}, ErrCredentials},

		// RFC 7628 section 4.1, with a user of ours.
		{"OAUTHBEARER", []string{"n,a=alice,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"}, "alice"},
		{"OAUTHBEARER", []string{absent, "n,,\x01auth=BeArEr good\x01\x01"}, "alice"},
		{"OAUTHBEARER", []string{"y,,\x01auth=Bearer good\x01unknown=\x01\x01"}, "alice"},
		{"OAUTHBEARER", []string{"n,a=bob,\x01auth=Bearer good\x01\x01", "\x01"}, ErrNotAuthorized},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer bad\x01\x01", "\x01"}, ErrCredentials},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer nologin\x01\x01", ""}, ErrNotAuthorized},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer odd\x01\x01", "\x01"}, ErrCredentials},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer go\nod\x01\x01", "n,,\x01auth=Bearer good\x01\x01"}, ErrCredentials},
		{"OAUTHBEARER", []string{"n,,\x01auth=\x01\x01", "\x01"}, ErrCredentials},
		{"OAUTHBEARER", []string{"n,,\x01auth=Basic Zm9v\x01\x01", "\x01"}, ErrCredentials},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer down\x01\x01"}, ErrUnavailable},
		{"OAUTHBEARER", []string{"n,a=a/b,\x01auth=Bearer good\x01\x01"}, ErrCredentials},
		{"OAUTHBEARER", []string{"p=tls-exporter,,\x01auth=Bearer good\x01\x01"}, ErrMalformed},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer good\x01auth=Bearer good\x01\x01"}, ErrMalformed},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer good\x01"}, ErrMalformed},
		{"OAUTHBEARER", []string{"n,,\x01auth=Bearer good"}, ErrMalformed},
		{"OAUTHBEARER", []string{"n,,auth=Bearer good\x01\x01"}, ErrMalformed},
		{"OAUTHBEARER", []string{"n,,\x01host=x\x01\x01"}, ErrMalformed},
		{"OAUTHBEARER", []string{"n,,\x01\x01"}, ErrMalformed},
		{"OAUTHBEARER", []string{"\x01"}, ErrMalformed},
		{"OAUTHBEARER", []string{""}, ErrMalformed},

		{"XOAUTH2", []string{"user=alice\x01auth=Bearer good\x01\x01"}, "alice"},
		{"XOAUTH2", []string{"user=bob\x01auth=Bearer good\x01\x01", ""}, ErrNotAuthorized},
		{"XOAUTH2", []string{"user=alice\x01auth=Bearer bad\x01\x01", ""}, ErrCredentials},
		{"XOAUTH2", []string{"user=alice\x01auth=Bearer down\x01\x01"}, ErrUnavailable},
		{"XOAUTH2", []string{"user=\x01auth=Bearer good\x01\x01"}, ErrMalformed},
		{"XOAUTH2", []string{"auth=Bearer good\x01\x01"}, ErrMalformed},
		{"XOAUTH2", []string{"user=alice\x01\x01"}, ErrMalformed},
	} {
		x := begin(t, c.mechanism, options(newWatch(t)))
		_, done, err := run(t, x, c.responses...)
		if want, failure := c.want.(error); failure {
			if !errors.Is(err, want) || done || x.Identity() != (Identity{}) {
				t.Errorf("%s %.60q: %v, %v, want %v", c.mechanism, c.responses, done, err, want)
			}
			if err != nil && (strings.Contains(err.Error(), "tanstaaf") || strings.Contains(err.Error(), "good")) {
				t.Errorf("%s %.60q: a secret in %v", c.mechanism, c.responses, err)
			}
		} else if who := (Identity{c.want.(string), c.want.(string)}); err != nil || !done || x.Identity() != who || x.User() != who.Authenticated {
			t.Errorf("%s %.60q: %v, %v, %v, want %v", c.mechanism, c.responses, done, err, x.Identity(), who)
		}
		if _, done, err := x.Next(context.Background(), []byte("\x00tim\x00tanstaaftanstaaf")); done || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s %.60q: goes on after its end", c.mechanism, c.responses)
		}
	}
}

// The prompts that clients know, and what a client with a bad token is told.
func TestChallenges(t *testing.T) {
	for _, c := range []struct {
		mechanism string
		responses []string
		want      []string
	}{
		{"PLAIN", []string{absent}, []string{""}},
		{"LOGIN", []string{absent, "tim"}, []string{"Username:", "Password:"}},
		{"LOGIN", []string{absent, "../x"}, []string{"Username:", "Password:"}},
		{"OAUTHBEARER", []string{"n,,\x01auth=\x01\x01"}, []string{`{"openid-configuration":"https://id.example.org/.well-known/openid-configuration","scope":"mail","status":"invalid_token"}`}},
		{"XOAUTH2", []string{"user=alice\x01auth=Bearer x\x01\x01"}, []string{`{"schemes":"bearer","scope":"mail","status":"401"}`}},
	} {
		got, done, err := run(t, begin(t, c.mechanism, options(newWatch(t))), c.responses...)
		if err != nil || done || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", c.mechanism, got, err, c.want)
		}
	}
}

// An empty challenge is not no challenge: an SMTP server must send "334 ".
func TestEmptyChallengeIsOne(t *testing.T) {
	c, done, err := begin(t, "PLAIN", options(newWatch(t))).Next(context.Background(), nil)
	if c == nil || len(c) != 0 || done || err != nil {
		t.Errorf("%v, %v, %v", c, done, err)
	}
}

func TestNewNeedsItsOptions(t *testing.T) {
	full := options(newWatch(t))
	bare := Options{Canonical: full.Canonical}
	all := Mechanisms()
	for _, m := range all {
		if _, err := New(m.Name, full); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		if _, err := New(m.Name, bare); !errors.Is(err, ErrMechanism) {
			t.Errorf("%s without anything: %v", m.Name, err)
		}
	}
	noBindings := full
	noBindings.Bindings = nil
	for _, name := range []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"} {
		if _, err := New(name, noBindings); !errors.Is(err, ErrMechanism) {
			t.Errorf("%s without bindings: %v", name, err)
		}
	}
	noNames := full
	noNames.Canonical = nil
	for name, o := range map[string]Options{"ANONYMOUS": full, "": full, "plain": full, "GSSAPI": full, "PLAIN": noNames} {
		if _, err := New(name, o); !errors.Is(err, ErrMechanism) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A01: to act for another takes Authorize, is asked after the password, and with both names in their one form.
func TestAuthorize(t *testing.T) {
	var asked []string
	o := options(newWatch(t))
	o.Authorize = func(_ context.Context, authenticated, authorized string) error {
		asked = append(asked, authenticated+" for "+authorized)
		switch authorized {
		case "alice":
			return nil
		case "down":
			return errDown
		}
		return ErrNotAuthorized
	}
	for authzid, want := range map[string]error{"ALICE": nil, "down": ErrUnavailable, "bob": ErrNotAuthorized} {
		x := begin(t, "PLAIN", o)
		_, done, err := run(t, x, authzid+"\x00Tim\x00tanstaaftanstaaf")
		if done != (want == nil) || !errors.Is(err, want) {
			t.Errorf("for %s: %v, %v", authzid, done, err)
		}
		if done && x.Identity() != (Identity{"tim", "alice"}) {
			t.Errorf("for %s: %v", authzid, x.Identity())
		}
	}
	run(t, begin(t, "PLAIN", o), "alice\x00tim\x00wrong")
	run(t, begin(t, "PLAIN", o), "tim\x00tim\x00tanstaaftanstaaf")
	slices.Sort(asked)
	if want := []string{"tim for alice", "tim for bob", "tim for down"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
}

// A05: names are brought into their form once, and what has none is looked up nowhere, and not logged as it came.
func TestNames(t *testing.T) {
	for _, name := range []string{"../x", "a/b", "tim\n", "tim\r\nX: y", "%s", "tim ", " tim", "T\u0130M", "\u212a", "t\u0131m", strings.Repeat("x", 256), "-tim", "$(tim)", "tim\x7f", "tim\t"} {
		quoted := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(name)
		for mechanism, responses := range map[string][]string{
			"PLAIN":         {"\x00" + name + "\x00x"},
			"LOGIN":         {name, "x"},
			"CRAM-MD5":      {absent, name + " 00000000000000000000000000000000"},
			"APOP":          {apop + "\x00" + name + "\x00" + apopDigest},
			"SCRAM-SHA-256": {"n,,n=" + quoted + ",r=abc"},
			"XOAUTH2":       {"user=" + name + "\x01auth=Bearer bad\x01\x01"},
		} {
			w := newWatch(t)
			o := options(w)
			forms := 0
			o.Canonical = func(s string) (string, error) {
				if forms++; s != name {
					t.Errorf("%s: %q became %q", mechanism, name, s)
				}
				return userdb.Canonical(s)
			}
			x := begin(t, mechanism, o)
			_, done, err := run(t, x, responses...)
			if done || !errors.Is(err, ErrCredentials) || x.User() != "" || len(w.asked) > 0 || forms != 1 {
				t.Errorf("%s, %q: %v, %v, user %q, asked %q, %d times", mechanism, name, done, err, x.User(), w.asked, forms)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\r\n\x7f\t") {
				t.Errorf("%s, %q: %q would break a line of a log", mechanism, name, err)
			}
		}
	}
	forms := 0
	o := options(newWatch(t))
	o.Canonical = func(s string) (string, error) { forms++; return userdb.Canonical(s) }
	if _, done, err := run(t, begin(t, "PLAIN", o), "\x00TIM\x00tanstaaftanstaaf"); !done || forms != 1 {
		t.Errorf("%v, %d times", err, forms)
	}
}

// Who exists does not show: what is asked and computed, the challenges in their form, and the error are the same for a wrong password, for
// nobody, for a locked user, and for one whose password is stored in a form that the mechanism cannot use. Counted, not timed.
func TestUnknownUserIsWrongPassword(t *testing.T) {
	for mechanism, responses := range map[string]func(user string) []string{
		"PLAIN":    func(u string) []string { return []string{"\x00" + u + "\x00wrong"} },
		"LOGIN":    func(u string) []string { return []string{absent, u, "wrong"} },
		"CRAM-MD5": func(u string) []string { return []string{absent, u + " 00000000000000000000000000000000"} },
		"APOP":     func(u string) []string { return []string{apop + "\x00" + u + "\x00" + strings.Repeat("\x00", 16)} },
	} {
		type trace struct {
			asked      []string
			challenges int
			err        string
		}
		var first trace
		for i, user := range []string{"alice", "nobody", "lock", "carol", "dora"} {
			if mechanism != "CRAM-MD5" && mechanism != "APOP" && user == "dora" {
				continue // her keys cost what they cost; the decoy is of carol's kind
			}
			w := newWatch(t)
			challenges, _, err := run(t, begin(t, mechanism, options(w)), responses(user)...)
			got := trace{w.asked, len(challenges), fmt.Sprint(err)}
			if i == 0 {
				first = got
			} else if !slices.Equal(got.asked, first.asked) || got.challenges != first.challenges || got.err != first.err {
				t.Errorf("%s: %s gives %+v, alice %+v", mechanism, user, got, first)
			}
		}
		if mechanism != "CRAM-MD5" && mechanism != "APOP" && !slices.Equal(first.asked, []string{"Verify", "compute 65536", "computed"}) {
			t.Errorf("%s: asked %q", mechanism, first.asked)
		}
	}

	var first string
	for _, mechanism := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} {
		for _, user := range []string{"alice", "nobody", "lock", "carol", "dora"} {
			w := newWatch(t)
			x := begin(t, mechanism, options(w))
			c := client{user: user, password: "wrong", flag: "n"}
			server, _, err := x.Next(context.Background(), []byte(c.first()))
			if err != nil {
				t.Fatalf("%s: %s is refused at once: %v", mechanism, user, err)
			}
			_, _, err = x.Next(context.Background(), []byte(c.final(mechanism, string(server))))
			got := fmt.Sprint(w.asked, err, len(strings.Split(string(server), ",")), c.iterations)
			if first == "" {
				first = got
			}
			if got != first || !errors.Is(err, ErrCredentials) || len(c.salt) != 16 {
				t.Errorf("%s: %s gives %s, alice %s", mechanism, user, got, first)
			}
		}
	}
}

// A context that is over, and whatever a back end fails with, is "later", and never "wrong".
func TestUnknownErrorsAreTemporary(t *testing.T) {
	w := newWatch(t)
	w.Gate = func(ctx context.Context, _ int64) (func(), error) { return nil, context.Cause(ctx) }
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for mechanism, response := range map[string]string{"PLAIN": "\x00tim\x00tanstaaftanstaaf", "SCRAM-SHA-256": "n,,n=tim,r=x"} {
		x := begin(t, mechanism, func() Options { o := options(w); o.PlusOffered = false; return o }())
		if _, done, err := x.Next(ctx, []byte(response)); done || !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCredentials) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
	o := options(newWatch(t))
	o.Random = bytes.NewReader(nil)
	for mechanism, response := range map[string]string{"CRAM-MD5": absent, "SCRAM-SHA-256": "n,,n=tim,r=x"} {
		if _, done, err := run(t, begin(t, mechanism, o), response); done || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s without randomness: %v", mechanism, err)
		}
	}
}

// gullible lets everybody in who has a password, and knows keys and secrets that it says are made up.
type gullible struct{}

func (gullible) Verify(context.Context, string, string) error { return nil }
func (gullible) Secret(context.Context, string) (string, bool, error) {
	return "tanstaaftanstaaf", false, nil
}
func (gullible) SCRAM(_ context.Context, user string, h password.SCRAMHash) (password.Keys, bool, error) {
	s, err := password.Parse("{PLAIN}tanstaaf")
	keys, _ := s.SCRAM(h, user, password.Derivation{Secret: []byte("0123456789abcdef")})
	return keys, false, err
}

// What is made up lets nobody in, even if it is right, and an empty password is nobody's, whatever the back end says (A01).
func TestGullible(t *testing.T) {
	o := options(gullible{})
	if _, done, _ := run(t, begin(t, "PLAIN", o), "\x00tim\x00x"); !done {
		t.Fatal("not gullible")
	}
	for mechanism, responses := range map[string][]string{"PLAIN": {"\x00tim\x00"}, "LOGIN": {"tim", ""}} {
		if _, done, err := run(t, begin(t, mechanism, o), responses...); done || !errors.Is(err, ErrCredentials) {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
	x := begin(t, "CRAM-MD5", o)
	if err := x.cramResponse(context.Background(), []byte("<1896.697170952@postoffice.reston.mci.net>"), []byte("tim b913a602c7eda7a495b4e6e7334d3890")); !errors.Is(err, ErrCredentials) {
		t.Errorf("CRAM-MD5: %v", err)
	}
	c := client{user: "alice", password: "tanstaaf", flag: "n"}
	if _, _, done, err := c.run(t, "SCRAM-SHA-256", o); done || !errors.Is(err, ErrCredentials) {
		t.Errorf("SCRAM-SHA-256: %v", err)
	}
}

// RFC 2195 section 2.
func TestCRAMExample(t *testing.T) {
	x := begin(t, "CRAM-MD5", options(newWatch(t)))
	err := x.cramResponse(context.Background(), []byte("<1896.697170952@postoffice.reston.mci.net>"), []byte("tim b913a602c7eda7a495b4e6e7334d3890"))
	if err != nil || x.Identity().Authenticated != "tim" {
		t.Errorf("%v, %v", err, x.Identity())
	}
}

// Challenges look like a msg-id, and do not repeat.
func TestCRAMChallenge(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		c, _, err := run(t, begin(t, "CRAM-MD5", options(newWatch(t))), absent)
		if err != nil || seen[c[0]] || !strings.HasPrefix(c[0], "<") || !strings.HasSuffix(c[0], "@mx.example.org>") || strings.Contains(c[0], " ") {
			t.Fatalf("%q: %v", c, err)
		}
		seen[c[0]] = true
	}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// issuer is a server that answers as its function says, and a Verifier that asks it.
type issuer struct {
	*Verifier
	asked atomic.Int32
	now   atomic.Int64
}

func newIssuer(t *testing.T, change func(*Options), answer http.HandlerFunc) *issuer {
	t.Helper()
	i := &issuer{}
	i.now.Store(now.Unix())
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	put(t, secret, "mail server\nse:cret%\n")
	o := Options{Introspection: server.URL + "/introspect", Credentials: secret, Claim: "username", Timeout: 10 * time.Second,
		Transport: server.Client().Transport, Report: func(error) {}, Now: func() time.Time { return time.Unix(i.now.Load(), 0) }}
	if change != nil {
		change(&o)
	}
	var err error
	if i.Verifier, err = New(o); err != nil {
		t.Fatal(err)
	}
	return i
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func TestIntrospection(t *testing.T) {
	i := newIssuer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
		if r.Method != "POST" || id != "mail server" || secret != "se:cret%" || r.URL.RawQuery != "" {
			w.WriteHeader(401)
			return
		}
		fmt.Fprintf(w, `{"active":%v,"username":"alice"}`, r.PostFormValue("token") == "go+od/=")
	})
	for token, want := range map[string]string{"go+od/=": "alice", "good": "no", "a.b.c": "no"} {
		if got := outcome(i.Verifier, token); got != want {
			t.Errorf("%s: %s, want %s", token, got, want)
		}
	}
}

func TestWhatTheIssuerSays(t *testing.T) {
	exp := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for _, c := range []struct{ text, want string }{
		{`{"active":true,"username":"alice","exp":` + exp(time.Hour) + `,"iss":"i","aud":["a","mail"]}`, "alice"},
		{`{"active":true,"username":"alice","exp":` + exp(-time.Hour) + `,"iss":"i","aud":"mail"}`, "no"},
		{`{"active":true,"username":"alice","nbf":` + exp(time.Hour) + `,"iss":"i","aud":"mail"}`, "no"},
		{`{"active":true,"username":"alice","iss":"i","aud":"shop"}`, "no"},
		{`{"active":true,"username":"alice","iss":"other","aud":"mail"}`, "no"},
		{`{"active":true,"username":"alice","aud":"mail"}`, "no"},
		{`{"active":true,"iss":"i","aud":"mail"}`, "no"},
		{`{"active":false}`, "no"},
		{`{"active":"true","username":"alice","iss":"i","aud":"mail"}`, "later"},
		{`{"active":1,"username":"alice","iss":"i","aud":"mail"}`, "later"},
		{`{"Active":true,"username":"alice","iss":"i","aud":"mail"}`, "later"},
		{`{"username":"alice"}`, "later"},
		{`true`, "later"}, {`null`, "later"}, {`[]`, "later"}, {``, "later"}, {`<html>`, "later"},
		{`{"active":true,"username":"alice","iss":"i","aud":"mail","x":"` + strings.Repeat("x", maxReply) + `"}`, "later"},
	} {
		i := newIssuer(t, func(o *Options) { o.Issuer, o.Audience = "i", "mail" }, says(c.text))
		if got := outcome(i.Verifier, "token"); got != c.want {
			t.Errorf("%.100s: %s, want %s", c.text, got, c.want)
		}
	}
}

// Whatever is not an answer is "later", and tells nothing to anybody else.
func TestAnIssuerInTrouble(t *testing.T) {
	for _, code := range []int{204, 302, 307, 400, 401, 403, 404, 429, 500, 503} {
		var elsewhere atomic.Int32
		other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			elsewhere.Add(1)
			fmt.Fprint(w, `{"active":true,"username":"alice"}`)
		}))
		defer other.Close()
		i := newIssuer(t, nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(code)
		})
		if got := outcome(i.Verifier, "token"); got != "later" || elsewhere.Load() > 0 {
			t.Errorf("%d: %s, %d requests elsewhere", code, got, elsewhere.Load())
		}
	}
	stuck := make(chan struct{})
	i := newIssuer(t, func(o *Options) { o.Timeout = 100 * time.Millisecond }, func(w http.ResponseWriter, r *http.Request) { <-stuck })
	if got := outcome(i.Verifier, "token-c4nary"); got != "later" {
		t.Errorf("a silent one: %s", got)
	}
	_, err := i.User(context.Background(), "token-c4nary")
	if err == nil || strings.Contains(err.Error(), "c4nary") || strings.Contains(err.Error(), "se:cret") {
		t.Errorf("%v", err)
	}
	close(stuck)
	// A certificate of nobody's.
	i = newIssuer(t, func(o *Options) { o.Transport = nil }, says(`{"active":true,"username":"alice"}`))
	if got := outcome(i.Verifier, "token"); got != "later" || i.asked.Load() > 0 {
		t.Errorf("an unknown certificate: %s, asked %d times", got, i.asked.Load())
	}
}

// A yes is kept for a minute and not beyond the token's end; a no is not kept.
func TestAYesIsKeptForAMinute(t *testing.T) {
	for _, c := range []struct {
		text  string
		after int // seconds
		asked int32
	}{
		{`{"active":true,"username":"alice"}`, 59, 1},
		{`{"active":true,"username":"alice"}`, 61, 2},
		{`{"active":true,"username":"alice"}`, -3600, 2},
		{`{"active":true,"username":"alice","exp":` + fmt.Sprint(now.Unix()+30) + `}`, 29, 1},
		{`{"active":true,"username":"alice","exp":` + fmt.Sprint(now.Unix()+30) + `}`, 31, 2},
		{`{"active":false}`, 0, 2},
	} {
		i := newIssuer(t, nil, says(c.text))
		outcome(i.Verifier, "token")
		i.now.Add(int64(c.after))
		outcome(i.Verifier, "token")
		if got := i.asked.Load(); got != c.asked {
			t.Errorf("%s, %d s later: asked %d times, want %d", c.text, c.after, got, c.asked)
		}
		outcome(i.Verifier, "another")
		if got := i.asked.Load(); got != c.asked+1 {
			t.Errorf("%s: another token is not asked about", c.text)
		}
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	i := newIssuer(t, nil, says(`{"active":true,"username":"alice"}`))
	for n := range maxKept + 10 {
		var sum [32]byte
		sum[0], sum[1], sum[2] = byte(n), byte(n>>8), byte(n>>16)
		i.kept.put(sum, "alice", now.Add(keepFor), now)
	}
	if len(i.kept.m) > maxKept {
		t.Errorf("%d tokens", len(i.kept.m))
	}
}

// Keys and an issuer: what is signed is verified here, what is not is asked about.
func TestBoth(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	put(t, keys, ours().set())
	i := newIssuer(t, func(o *Options) { o.Keys, o.Issuer, o.Audience, o.Claim = keys, "https://issuer.test", "mail", "email" },
		says(`{"active":true,"email":"bob","iss":"https://issuer.test","aud":"mail"}`))
	if got := outcome(i.Verifier, ours().sign("EdDSA", nil, good(nil))); got != "alice@example.test" || i.asked.Load() != 0 {
		t.Errorf("signed: %s", got)
	}
	if got := outcome(i.Verifier, strangers().sign("EdDSA", nil, good(nil))); got != "no" || i.asked.Load() != 0 {
		t.Errorf("forged: %s", got)
	}
	if got := outcome(i.Verifier, "opaque"); got != "bob" {
		t.Errorf("opaque: %s", got)
	}
}

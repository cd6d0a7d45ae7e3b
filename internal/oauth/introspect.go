package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	maxReply = 64 << 10 // octets
	keepFor  = time.Minute
	maxKept  = 10_000 // tokens, some 200 octets each
	// connections to the issuer; who comes when all are busy waits, within the timeout
	connections = 16
)

// login is ours at the issuer.
type login struct{ id, secret string }

func (login) String() string   { return "login" }
func (login) GoString() string { return "login" }

func parseLogin(file, text string) (login, error) {
	id, rest, _ := strings.Cut(text, "\n")
	secret, more, _ := strings.Cut(rest, "\n")
	l := login{strings.TrimSpace(id), strings.TrimSpace(secret)}
	if l.id == "" || l.secret == "" || strings.TrimSpace(more) != "" {
		return login{}, fmt.Errorf("%s: two lines are wanted: client id, and secret", file)
	}
	return l, nil
}

func newClient(o Options) *http.Client {
	c := &http.Client{Timeout: o.Timeout, Transport: o.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if c.Transport == nil {
		c.Transport = &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxConnsPerHost: connections,
			MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxReply, ForceAttemptHTTP2: true}
	}
	return c
}

// ask is token introspection (RFC 7662 section 2).
func (v *Verifier) ask(ctx context.Context, token string) (string, error) {
	sum := sha256.Sum256([]byte(token))
	if user, ok := v.kept.get(sum, v.o.Now()); ok {
		return user, nil
	}
	c, err := v.introspect(ctx, token)
	if err != nil {
		return "", err
	}
	// "active" is the issuer's word for all that it knows; what it says besides must not contradict it.
	if string(c["active"]) != "true" {
		return "", bad("not active")
	}
	end, err := v.check(c, false)
	if err != nil {
		return "", err
	}
	user, err := v.user(c)
	if err != nil {
		return "", err
	}
	until := v.o.Now().Add(keepFor)
	if !end.IsZero() && end.Before(until) {
		until = end
	}
	v.kept.put(sum, user, until, v.o.Now())
	return user, nil
}

func (v *Verifier) introspect(ctx context.Context, token string) (claims, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.o.Introspection, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("oauth: no request can be made of the URL")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if v.credentials != nil {
		l, err := v.credentials.Get()
		if err != nil {
			return nil, err
		}
		r.SetBasicAuth(url.QueryEscape(l.id), url.QueryEscape(l.secret)) // RFC 6749 section 2.3.1
	}
	reply, err := v.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("oauth: the issuer answers %d", reply.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(reply.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("oauth: the issuer's answer: %w", err)
	case len(b) > maxReply:
		return nil, fmt.Errorf("oauth: the issuer's answer has more than %d octets", maxReply)
	}
	var c claims
	if json.Unmarshal(b, &c) != nil || c == nil {
		return nil, errors.New("oauth: the issuer's answer is not a JSON object")
	}
	if raw := string(c["active"]); raw != "true" && raw != "false" {
		return nil, errors.New("oauth: the issuer does not say whether the token is active")
	}
	return c, nil
}

// kept are users by the sum of their tokens.
type kept struct {
	mu sync.Mutex
	m  map[[sha256.Size]byte]answer
}

type answer struct {
	user  string
	until time.Time
}

func (k *kept) get(sum [sha256.Size]byte, now time.Time) (string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, ok := k.m[sum]
	if !ok || !now.Before(a.until) || a.until.Sub(now) > keepFor { // the last: the clock went back
		return "", false
	}
	return a.user, true
}

func (k *kept) put(sum [sha256.Size]byte, user string, until, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.m) >= maxKept {
		for s, a := range k.m {
			if !now.Before(a.until) {
				delete(k.m, s)
			}
		}
	}
	if k.m == nil || len(k.m) >= maxKept {
		k.m = make(map[[sha256.Size]byte]answer)
	}
	k.m[sum] = answer{user, until}
}

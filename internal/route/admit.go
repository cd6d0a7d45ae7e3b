package route

import (
	"strings"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/smtp"
)

// Admit is the answer to RCPT for an address with this verdict; nil admits it. mayRelay: this client may send to any domain.
// Of an alias it knows only the targets themselves; Accept looks further.
func Admit(v Verdict, mayRelay bool) *smtp.Reply {
	if !v.Ours && !mayRelay && !v.Addr.IsNull() {
		return smtp.NewReply(550, "5.7.1", "relaying denied")
	}
	switch v.Kind {
	case Refuse:
		return v.Reply
	case Alias:
		return admitTargets(v.Targets)
	}
	return nil
}

// admitTargets refuses an alias that cannot be delivered: for now if any target says so, for good if all do. (A temporary error of
// one member holds up the alias as a whole, also in the queue: the sender's queue is as good a place to wait, and he sees it.)
func admitTargets(list []alias.Target) *smtp.Reply {
	var dead *smtp.Reply
	live := false
	for i := range list {
		switch r := refusal(list[i], false); {
		case r == nil:
			live = true
		case r.Temporary():
			return r
		case dead == nil:
			dead = r
		}
	}
	if live {
		return nil
	}
	return dead
}

// Accept is Resolve and Admit for RCPT: it also follows an alias until it has found one who can be reached, and refuses it if there
// is none.
func (t *Tables) Accept(m addr.Mailbox, l Limits, mayRelay bool) (Verdict, *smtp.Reply) {
	first := lookup{t: t}
	v, e := first.resolve(m)
	if v.Kind != Alias {
		return v, Admit(v, mayRelay)
	}
	t.fill(&v, e)
	if r := Admit(v, mayRelay); r != nil {
		return v, r
	}
	w := walk{t: t, limits: l, probe: true, done: make(map[visit]bool), seen: make(map[string]bool)}
	w.start(v, e)
	switch {
	case w.live > 0:
		return v, nil
	case w.over:
		return v, tooMany()
	case len(w.finals) > 0:
		return v, worst(w.finals)
	}
	return v, nil // ":blackhole:"
}

// refusal is what a target that is not an address says; nil for those that lead on. inList: it stands in a list file, whose slips
// concern one member: they are reported, and hold up nobody.
func refusal(x alias.Target, inList bool) *smtp.Reply {
	switch x.Kind {
	case alias.Fail:
		return replyText(x.Text, 550, "5.1.1", "this address does not exist any more")
	case alias.Defer:
		return replyText(x.Text, 450, "4.2.0", "this address takes no mail now")
	case alias.Bad:
		if inList {
			return smtp.NewReply(550, "5.1.3", "bad address in a list")
		}
		return smtp.NewReply(451, "4.3.0", "the alias is broken and waits to be mended")
	}
	return nil
}

// replyText makes a reply from text of an administrator: "550 5.7.1 words", "5.7.1 words", "550 words" or words. A code of another
// class than that of code is not taken: what fails fails.
func replyText(text string, code int, enhanced, words string) *smtp.Reply {
	class := byte('0' + code/100)
	word, rest, _ := strings.Cut(text, " ")
	if len(word) == 3 && word[0] == class && word[1] >= '0' && word[1] <= '5' && isDigit(word[2]) {
		code = int(word[0]-'0')*100 + int(word[1]-'0')*10 + int(word[2]-'0')
		text = strings.TrimSpace(rest)
		word, rest, _ = strings.Cut(text, " ")
	}
	if e, ok := smtp.ParseEnhanced(word); ok && e[0] == code/100 {
		enhanced = word
		text = strings.TrimSpace(rest)
	}
	if text == "" {
		text = words
	}
	return smtp.NewReply(code, enhanced, text)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// words are what bodies and subjects consist of. The rare ones are looked for.
var words = strings.Fields(`the of and to in a is that for it on with as be this are by at from have an not or was we you your will can all has their more our
meeting report please find attached invoice project schedule update question release server customer regards thanks team review budget deadline contract
travel request order delivery account number week month tomorrow yesterday morning office phone document version change issue problem solution result`)

const (
	rareWord = "quarterly" // in a fiftieth of the subjects
	rareText = "xylophone" // in a hundredth of the bodies
)

// firstDate is that of the first message; each is some minutes younger than the one before it.
var firstDate = time.Date(2023, 1, 2, 8, 0, 0, 0, time.UTC)

func dateOf(i int) time.Time { return firstDate.Add(time.Duration(i) * 11 * time.Minute) }

// letter is the i-th message of a mailbox, always the same, as mail is: one of several forms, of a size between one and a hundred KiB, with the header of something that has
// come a long way; three of five are part of a conversation. Lines end with LF.
func letter(i int) []byte {
	w := &writer{Rand: rand.New(rand.NewPCG(uint64(i), 7))}
	thread, place := i/7, i%7
	id := func(k int) string {
		return fmt.Sprintf("<%x.%d.%d@mail%d.example.net>", 0x9e3779b9*uint32(thread+1), thread, k, thread%9)
	}
	if place > 4 { // on its own
		thread, place = 1_000_000+i, 0
	}
	from := w.IntN(400)
	date := dateOf(i)
	w.say("Return-Path: <person%d@host%d.example.net>\nDelivered-To: alice@example.test\n", from, from%40)
	for k := range 2 + w.IntN(3) {
		w.say("Received: from relay%d.example.net (relay%[1]d.example.net [192.0.2.%d])\n\tby mx%d.example.org (Postfix) with ESMTPS id %010X\n\tfor <alice@example.test>; %s\n",
			w.IntN(50), w.IntN(250), k, w.Uint64()>>24, date.Add(-time.Duration(k)*time.Second).Format(time.RFC1123Z))
	}
	w.say("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=mail;\n\th=from:to:subject:date:message-id:mime-version:content-type;\n\tbh=%s;\n\tb=%s\n",
		w.base64(32, 64, ""), strings.TrimSpace(w.base64(256, 66, "\n\t ")))
	w.say("From: %s\nTo: %s\n", w.person(from), w.people(1+w.IntN(4)))
	if w.IntN(4) == 0 {
		w.say("Cc: %s\n", w.people(1+w.IntN(6)))
	}
	w.say("Date: %s\nMessage-ID: %s\n", date.Format(time.RFC1123Z), id(place))
	re := ""
	if place > 0 {
		var refs []string
		for k := range place {
			refs = append(refs, id(k))
		}
		w.say("In-Reply-To: %s\nReferences: %s\n", id(place-1), strings.Join(refs, "\n "))
		re = "Re: "
	}
	topic := (&writer{Rand: rand.New(rand.NewPCG(uint64(thread), 8))}).subject()
	w.say("Subject: %s%s\n", re, topic)
	if w.IntN(5) == 0 {
		w.say("List-Id: <list%d.example.org>\nList-Unsubscribe: <https://example.org/u/%d>\nPrecedence: list\n", from%20, from%20)
	}
	w.say("User-Agent: Mozilla Thunderbird\nX-Spam-Status: No, score=-%d.%d\nMIME-Version: 1.0\n", w.IntN(5), w.IntN(10))
	rare := w.IntN(100) == 0
	size := int(min(math.Exp(w.NormFloat64()+7.3), 100<<10))
	switch kind := w.IntN(20); {
	case kind < 9:
		w.say("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n")
		w.prose(size, rare)
	case kind < 16:
		w.alternative(size, rare)
	default:
		outer := w.boundary("mixed")
		w.say("\nThis is a multi-part message in MIME format.\n--%s\n", outer)
		if kind == 19 {
			w.alternative(size, rare)
			w.say("\n--%s\nContent-Type: message/rfc822\nContent-Disposition: attachment\n\nFrom: %s\nTo: %s\nSubject: %s\nDate: %s\nMIME-Version: 1.0\n", outer, w.person(w.IntN(400)), w.people(1), topic, date.Format(time.RFC1123Z))
			w.alternative(size/2, false)
		} else {
			w.say("Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n")
			w.prose(size, rare)
			w.say("\n--%s\nContent-Type: application/pdf; name=\"report %d.pdf\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"report %[2]d.pdf\"\n\n%s", outer, i, w.base64(2<<10+w.IntN(20<<10), 76, "\n"))
		}
		w.say("\n--%s--\n", outer)
	}
	return w.Bytes()
}

// writer writes a message.
type writer struct {
	bytes.Buffer
	*rand.Rand
}

func (w *writer) say(format string, args ...any) { fmt.Fprintf(w, format, args...) }

func (w *writer) word() string { return words[w.IntN(len(words))] }

func (w *writer) person(i int) string {
	if i%10 == 0 {
		return fmt.Sprintf("=?utf-8?Q?J=C3=BCrgen_M=C3=BCller_%d?= <person%[1]d@host%d.example.net>", i, i%40)
	}
	return fmt.Sprintf("\"Person Number %d\" <person%[1]d@host%d.example.net>", i, i%40)
}

func (w *writer) people(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = w.person(w.IntN(400))
	}
	return strings.Join(all, ",\n\t")
}

func (w *writer) subject() string {
	all := make([]string, 3+w.IntN(6))
	for i := range all {
		all[i] = w.word()
	}
	if w.IntN(50) == 0 {
		all[0] = rareWord
	}
	if w.IntN(8) == 0 {
		return "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte("Über "+strings.Join(all[:3], " "))) + "?="
	}
	return strings.Join(all, " ")
}

// prose is text in lines.
func (w *writer) prose(size int, rare bool) {
	end := w.Len() + size
	for line := 0; w.Len() < end || line > 0; {
		word := w.word()
		if rare {
			word, rare = rareText, false
		}
		w.WriteString(word)
		if line += len(word) + 1; line > 66 {
			w.WriteByte('\n')
			line = 0
		} else {
			w.WriteByte(' ')
		}
	}
}

func (w *writer) boundary(kind string) string {
	b := fmt.Sprintf("------------%016x", w.Uint64())
	w.say("Content-Type: multipart/%s;\n boundary=\"%s\"\n", kind, b)
	return b
}

func (w *writer) alternative(size int, rare bool) {
	b := w.boundary("alternative")
	w.say("\n--%s\nContent-Type: text/plain; charset=\"utf-8\"; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\n", b)
	w.prose(size, rare)
	w.say("\n--%s\nContent-Type: text/html; charset=\"utf-8\"\nContent-Transfer-Encoding: quoted-printable\n\n<html><head><meta http-equiv=3D\"content-type\"></head><body>\n", b)
	for end := w.Len() + 2*size; w.Len() < end; {
		w.say("<p style=3D\"margin:0\" class=3D\"c%d\">", w.IntN(9))
		w.prose(300, rare)
		w.say("</p>\n")
		rare = false
	}
	w.say("</body></html>\n\n--%s--\n", b)
}

// base64 is octets in lines.
func (w *writer) base64(octets, line int, end string) string {
	raw := make([]byte, octets)
	for i := range raw {
		raw[i] = byte(w.Uint32())
	}
	text := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	for len(text) > line {
		b.WriteString(text[:line] + end)
		text = text[line:]
	}
	return b.String() + text + end
}

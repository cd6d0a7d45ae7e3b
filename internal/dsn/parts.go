package dsn

import (
	"bytes"
	"strings"
)

// status is the part for programs: RFC 3464 section 2.
func (m *Message) status() []byte {
	var b bytes.Buffer
	line(&b, "Reporting-MTA", "dns; "+m.host())
	// RFC 3461 section 6.3: decoded. Its characters are printable ASCII (section 4.4).
	line(&b, "Original-Envelope-Id", plain(m.r.EnvID, maxEnvID))
	line(&b, "Arrival-Date", date(m.r.Arrived))
	for _, p := range m.r.Recipients {
		b.WriteString("\r\n")
		if typ, address, ok := strings.Cut(p.Original, ";"); ok && typ != "" && address != "" {
			line(&b, "Original-Recipient", m.typed(typ, address))
		}
		line(&b, "Final-Recipient", m.typed("rfc822", p.Address))
		line(&b, "Action", p.action(m.r.Kind))
		line(&b, "Status", p.status(m.r.Kind))
		if p.RemoteMTA != "" {
			line(&b, "Remote-MTA", "dns; "+hostname(p.RemoteMTA))
		}
		if p.Diagnostic != "" {
			// RFC 3464 section 2.3.6: type smtp is for replies that a server gave.
			typ := "x-postamt; "
			if p.RemoteMTA != "" {
				typ = "smtp; "
			}
			line(&b, "Diagnostic-Code", typ+plain(p.Diagnostic, maxDiagnostic))
		}
		line(&b, "Last-Attempt-Date", date(p.LastAttempt))
		if m.r.Kind == Delay {
			line(&b, "Will-Retry-Until", date(p.RetryUntil))
		}
	}
	return b.Bytes()
}

// action is the one given, or the one that the kind of report means.
func (p Recipient) action(k Kind) string {
	switch p.Action {
	case Failed, Delayed, Delivered, Relayed, Expanded:
		return string(p.Action)
	}
	switch k {
	case Failure:
		return string(Failed)
	case Delay:
		return string(Delayed)
	}
	return string(Delivered)
}

// status is the one given if it is one, and of the class of the report (RFC 3464 section 2.3.4): a temporary
// failure that has expired is reported with its own 4.y.z.
func (p Recipient) status(k Kind) string {
	s := p.Status
	class, rest, _ := strings.Cut(s, ".")
	subject, detail, _ := strings.Cut(rest, ".")
	if (class == "2" || class == "4" || class == "5") && digits(subject) && digits(detail) {
		return s
	}
	switch k {
	case Failure:
		return "5.0.0"
	case Delay:
		return "4.0.0"
	}
	return "2.0.0"
}

// digits: RFC 3463 section 2.
func digits(s string) bool {
	return len(s) >= 1 && len(s) <= 3 && strings.Trim(s, "0123456789") == ""
}

// person is the part for people.
func (m *Message) person() []byte {
	var b bytes.Buffer
	paragraph := func(text string) {
		wrap(&b, text, 0, "")
		b.WriteString("\r\n")
	}
	paragraph("This is the mail system at " + m.host() + ".")
	switch m.r.Kind {
	case Failure:
		paragraph("I am sorry: your message could not be delivered to " + these(len(m.r.Recipients)) +
			" below, and it will not be tried again.")
	case Delay:
		text := "Your message has not been delivered yet to " + these(len(m.r.Recipients)) + " below."
		if t := m.r.Recipients[0].RetryUntil; !t.IsZero() {
			text += " It will be tried again until " + date(t) + "."
		}
		paragraph(text + " You need not send it again.")
	case Success:
		paragraph("This is what became of your message, as you asked.")
	}
	for _, p := range m.r.Recipients {
		b.WriteString("<" + m.address(p.Address) + ">\r\n")
		if typ, address, _ := strings.Cut(p.Original, ";"); strings.EqualFold(typ, "rfc822") || strings.EqualFold(typ, "utf-8") {
			_, wrote, _ := strings.Cut(m.typed(typ, address), "; ")
			if !strings.EqualFold(wrote, m.address(p.Address)) {
				b.WriteString("    (you wrote to " + wrote + ")\r\n")
			}
		}
		said := func(text string) {
			b.WriteString("    ")
			wrap(&b, text, 4, "    ")
		}
		said(sentence(p.action(m.r.Kind), p.status(m.r.Kind)))
		if p.Diagnostic != "" {
			who := "The reason: "
			switch {
			case p.RemoteMTA != "":
				who = hostname(p.RemoteMTA) + " said: "
			case m.r.Kind == Success:
				who = "The answer: "
			}
			said(who + plain(p.Diagnostic, maxDiagnostic))
		}
		b.WriteString("\r\n")
	}
	if m.original != nil {
		if m.full {
			paragraph("Your message follows.")
		} else {
			paragraph("The headers of your message follow.")
		}
	}
	if id := token(m.r.MessageID); id != "" {
		paragraph("If you ask your postmaster about it, name the message " + id + ".")
	}
	return b.Bytes()
}

func these(n int) string {
	if n == 1 {
		return "the recipient"
	}
	return "the recipients"
}

// sentence says what happened, and what can be done about it, as far as a status code knows (RFC 3463 section 3).
func sentence(action, status string) string {
	switch Action(action) {
	case Delivered:
		return "Delivered to the mailbox."
	case Relayed:
		return "Handed to the next server, which does not report further."
	case Expanded:
		return "Sent on to the members of a list or alias. No more is reported about them."
	}
	_, detail, _ := strings.Cut(status, ".")
	text := ""
	switch detail {
	case "1.1":
		text = "There is no such user. Look for a typing mistake before the @."
	case "1.2":
		text = "The domain does not exist or takes no mail. Look for a typing mistake after the @."
	case "1.3", "1.6":
		text = "The address is not or no longer valid. Ask the recipient for another one."
	case "1.10":
		text = "The domain says that it takes no mail. Ask the recipient for another address."
	case "1.7", "1.8", "7.27":
		text = "Your own address was refused. See that the sender address of your program is right."
	case "2.1":
		text = "The mailbox is switched off. Ask the recipient for another address."
	case "2.2":
		text = "The mailbox is full. Try again when the recipient has made room."
	case "2.3", "3.4":
		text = "The message is too big. Send a smaller one, or the big part by other means."
	case "3.1", "3.2", "3.5":
		text = "The recipient's mail system cannot take mail now. Try again later."
	case "4.1", "4.2", "4.3", "4.4", "4.5":
		text = "The recipient's server could not be reached or did not answer as it should. Try again in a day or so."
	case "4.6":
		text = "The message went round in a circle. The postmaster of the recipient's domain has to mend that."
	case "4.7":
		text = "It could not be delivered in the time that it had. Try again, or reach the recipient by other means."
	case "6.7":
		text = "The recipient's server does not know internationalised mail. Use an address of plain letters."
	case "6.1", "6.3":
		text = "The recipient's server does not take messages of this form. Send it as plain text."
	case "7.1", "7.2":
		text = "The recipient's server does not take this message from you. The recipient or his postmaster can tell why."
	default:
		switch {
		case strings.HasPrefix(detail, "7."):
			text = "The message was refused by a rule of the recipient's server. His postmaster can tell why."
		case strings.HasPrefix(detail, "6."):
			text = "The content of the message was refused."
		case strings.HasPrefix(detail, "1."):
			text = "The address was refused. See that it is right."
		case strings.HasPrefix(detail, "2."):
			text = "The mailbox did not take the message."
		default:
			text = "It was not accepted."
		}
	}
	if Action(action) == Delayed {
		// What to do about it is not yet the question.
		text, _, _ = strings.Cut(text, ". ")
		return "Not yet: " + strings.ToLower(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
	}
	return text
}

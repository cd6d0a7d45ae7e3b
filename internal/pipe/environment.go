package pipe

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	"postamt/internal/addr"
	"postamt/internal/smtp"
)

// Delivery is what a command is told of a message: what Postfix's local(8) and qmail-command(8) tell.
type Delivery struct {
	Sender    string       // "" is the null path
	Recipient addr.Mailbox // with its tag
	Tag       string       // of the recipient, "" if none
	User      string       // in the user database; of a command in an alias file, the account that it runs as
	Home      string
	Arrived   time.Time
	Origin    smtp.Origin
}

// Environment is all that a command finds in its environment. Of a value that came with the message each octet that is no letter, digit, or one of "@.+_=-",
// and a "-" that could begin an option, is "_".
func (d *Delivery) Environment() []string {
	sender, to := Clean(d.Sender), Clean(d.Recipient.String())
	local, domain, tag := Clean(d.Recipient.Local), Clean(d.Recipient.Domain), Clean(d.Tag)
	user := Clean(d.User)
	home := d.Home
	if home == "" {
		home = "/"
	}
	return []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "SHELL=/bin/sh", "HOME=" + home, "USER=" + user, "LOGNAME=" + user,
		// Postfix
		"SENDER=" + sender, "RECIPIENT=" + to, "ORIGINAL_RECIPIENT=" + to, "LOCAL=" + local, "DOMAIN=" + domain, "EXTENSION=" + tag,
		// qmail
		"EXT=" + tag, "HOST=" + domain, "DEFAULT=" + tag, "NEWSENDER=" + sender,
		"UFLINE=" + FromLine(sender, d.Arrived),
		"RPLINE=Return-Path: <" + sender + ">\n", "DTLINE=Delivered-To: " + to + "\n",
		// Postfix's pipe(8)
		"CLIENT_ADDRESS=" + address(d.Origin.IP), "CLIENT_HOSTNAME=" + Clean(d.Origin.Name), "CLIENT_HELO=" + Clean(d.Origin.Helo), "SASL_USERNAME=" + Clean(d.Origin.Login),
	}
}

// FromLine is the line that stands above a message on standard input, as Postfix has it. Programs divide it at spaces, so that one in a local part is "_".
func FromLine(sender string, date time.Time) string {
	return "From " + strings.ReplaceAll(cmp.Or(sender, "MAILER-DAEMON"), " ", "_") + "  " + date.Local().Format(time.ANSIC) + "\n"
}

// address is one of IP, which has colons.
func address(s string) string {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.String()
	}
	return ""
}

// Clean is a value that came with the message, as it stands in the environment.
func Clean(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("@.+_=", c) >= 0, c == '-' && i > 0:
		default:
			b[i] = '_'
		}
	}
	return string(b)
}

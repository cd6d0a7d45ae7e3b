package facts

import "strings"

// Names is a set of names of header fields, a bit each.
type Names uint64

// names are the fields that are kept: those of the envelope, and what Thunderbird, Apple Mail, K-9, mutt, Evolution, Outlook and Roundcube ask for in lists of
// messages; a client is served without the file when all that it asks for is here. Received is not: several of 200 octets each are as much as all others
// together, and no list shows them. Another set, or another order, is another Form.
var names = [...]string{"Date", "Subject", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "In-Reply-To", "Message-ID", "References",
	"Content-Type", "Content-Class", "Content-Description", "MIME-Version", "Newsgroups", "Lines", "Return-Path", "Delivered-To", "X-Original-To",
	"Priority", "X-Priority", "Importance", "Precedence", "Auto-Submitted", "Disposition-Notification-To", "Mail-Followup-To", "Mail-Reply-To",
	"List-ID", "List-Post", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "Mailing-List", "X-Mailing-List", "X-BeenThere", "X-Loop", "X-List", "Originator",
	"X-Spam-Flag", "X-Spam-Score", "X-Spam-Level", "X-Spam-Status", "X-Label", "X-Draft-Info", "X-K9mail-Identity", "Chat-Version",
	"X-Uniform-Type-Identifier", "X-Universally-Unique-Identifier", "X-Forwarded-Message-Id",
	"X-Calendar-Attachment", "X-MSMail-Priority", "X-Ref", "X-MSOESRec"}

// Name is a field's name as a set; false: such fields are not kept, and the file must be asked.
func Name(name string) (Names, bool) {
	n := number(name)
	if n < 0 {
		return 0, false
	}
	return 1 << n, true
}

func number(name string) int {
	for i := range names {
		if len(names[i]) == len(name) && strings.EqualFold(names[i], name) {
			return i
		}
	}
	return -1
}

// Package submit makes a message and its envelope of what programs give to sendmail(1), and hands them to smtpd's local socket.
//
//	Read        takes standard input to its end: lines end in CR LF then, and nothing else is a line end
//	Addresses   the mailboxes of a header field or an argument, as far as people write them
//	Draft       the header: recipients to be taken from it (RFC 5322 section 3.6.6), Bcc taken out, what is missing put in
//	Session     a session with smtpd, as a client
//	Returned    a message that goes back to its sender
//
// The whole message is here before smtpd is asked for anything. So a job that prints a line an hour keeps no session, may outlive a restart of smtpd,
// and an error of reading never leaves half a message. It is kept in memory, up to maxMemory, and then in a file that has no name any more.
//
// Divergences: addresses without a domain get one, in the envelope and in the header (RFC 5322 has none without). A header of a message that is sent again (Resent-*) belongs
// together until a trace field, or a second Resent-Date, Resent-From, Resent-Sender or Resent-Message-ID: section 3.6.6 forbids two Resent-To in one block, but
// who writes them means both. A lone CR is a line end in a body, and a space in a header: "Subject: x\rBcc: y" stays one field.
package submit

import "errors"

const (
	// MaxHeader is the longest header, in octets: some 40,000 recipients.
	MaxHeader = 2 << 20
	// maxMemory is how much of a message is held in memory.
	maxMemory = 1 << 20
)

// What went wrong, for errors.Is. Everything else is wrong with the message.
var (
	ErrInput = errors.New("cannot read the message")
	ErrSpool = errors.New("cannot keep the message")
)

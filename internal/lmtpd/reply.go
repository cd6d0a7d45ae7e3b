package lmtpd

import (
	"errors"
	"syscall"

	"postamt/internal/maildir"
	"postamt/internal/smtp"
)

// replyFor turns what kept a message from a mailbox into a reply. Everything
// that is not known to be for ever is for now: a full disk, a quota, a home that
// is not mounted or a broken disk never make mail bounce before its time. What
// the reason was stays in the log.
func replyFor(err error) *smtp.Reply {
	var r *smtp.Reply
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, maildir.ErrQuota), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return smtp.NewReply(452, "4.2.2", "Mailbox full")
	case errors.Is(err, syscall.ENOSPC):
		return smtp.NewReply(452, "4.3.1", "Insufficient system storage")
	case errors.Is(err, maildir.ErrNoBase), errors.Is(err, maildir.ErrUnsafe), errors.Is(err, syscall.EACCES),
		errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return smtp.NewReply(451, "4.2.0", "Mailbox not available now")
	}
	return smtp.NewReply(451, "4.3.0", "Mailbox error")
}
